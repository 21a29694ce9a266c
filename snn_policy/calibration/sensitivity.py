"""The sigma-delta neuron's calibration: recorded observations and a tolerance → quanta and predictors.

Equations: docs/methods.md §1, "The sigma-delta neuron" (this project's own); of graphs of stages §14.
1. Sensitivity g_j: the RMS over the data of ‖∂action/∂h_j‖, floored at 10⁻³ of its stage's largest.
   Quantum q_j = s·ε_l/g_j, ε = (0.02, 0.03, …, 0.03, 0.01) for the first, the middle and the last stage. In a graph of
   stages, the last are those that the output's stage reads: every branch that ends in the action resolves it.
   In a convolution, the positions of a channel share g (their RMS), q and γ.
2. Predictor γ_j: 1 where that saves more than a tenth of the spikes on the data (consecutive decisions), else 0.
3. s: bisected until the open-loop RMS action error equals the tolerance.
Errors are in the unit of the action (`action_units`), of discrete actions those of the logits, whose common part does
not count.

A recording may say nothing about one of these. Then, with a warning: outputs that the head holds at a bound are judged
by what the head is given; layers whose activation is flat throughout are taken for linear; a stage on which the action
does not depend gets quanta from its spread; and s is at most what independent rounding errors would allow,
error² = Σ (q_j·g_j·k)²/3 per action, where the recording has few different rows, keeps the observation's neurons silent
or would allow several times that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.calibration.action_units import head_slope
from snn_policy.calibration.open_loop import SHORT, Encoding, OpenLoop, Recording, encode, forward, group_means
from snn_policy.calibration.recording_doubts import recording_doubts, warn_of
from snn_policy.calibration.recordings import HANDFUL, SENSITIVITY_VALUES, chunks, distinct_rows
from snn_policy.errors import warn
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import MOST_DIGITS, SigmaDeltaNeurons

if TYPE_CHECKING:
    from snn_policy.calibration.trajectories import Trajectory

FIRST_SHARE, MIDDLE_SHARE, LAST_SHARE = 0.02, 0.03, 0.01
SENSITIVITY_FLOOR = 1e-3
FLAT_SLOPE = 1e-3
"""A layer none of whose neurons has a steeper activation anywhere on the recording tells nothing of those before it."""
BISECTION_PRECISION = 0.005
SEQUENCE_PRECISION = 0.02
"""Of recurrent networks, which are run in sequence, and whose error jumps more."""
BISECTION_STEPS = 30
UNREACHED = 1.1
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-20, 2.0**20
MOST_ABOVE_INDEPENDENT = 8
"""Recordings of episodes allow 0.5 to 3 times the quanta that independent errors would (25 actors)."""
ENOUGH_DIGITS = 16
"""More digits than these resolve nothing that float32 does."""

Encoded = tuple[SigmaDeltaNeurons, OpenLoop]


def calibrated_neurons(
    actor: Actor,
    observations: FloatArray,
    tolerance: float,
    encoding: Encoding,
    passes: Passes,
) -> tuple[SigmaDeltaNeurons, OpenLoop]:
    """Return neurons whose open-loop RMS action error on the (consecutive) observations is the tolerance.

    Where the digits do not allow the tolerance, a warning says what was reached; where the recording says too little,
    another says what about, and the error that is given is one that is expected.
    """
    recording = Recording(actor, observations, passes)
    sensitivities, flat = _sensitivities_and_flat_layers(recording)
    shapes = _shapes(recording, sensitivities)
    shares = encoding.alpha if len(recording.inputs) >= SHORT else (0.0,) * len(shapes)
    precision = SEQUENCE_PRECISION if actor.recurrent else BISECTION_PRECISION

    def at(scale: float, digits: tuple[int, ...] = encoding.digits) -> Encoded:
        quanta = tuple((shape * scale).astype(np.float32) for shape in shapes)
        return _encode(recording, quanta, replace(encoding, digits=digits, alpha=shares))

    def search(digits: tuple[int, ...]) -> tuple[float, Encoded]:
        return _bisected(partial(at, digits=digits), tolerance, passes, precision)

    scale, (neurons, measured) = search(encoding.digits)
    doubts = recording_doubts(recording, flat)
    expected = _independent_error(recording, sensitivities, shapes, encoding.base)
    if flat or _decides_nothing(recording, measured, tolerance, scale * expected):
        doubts = doubts or ["the actor's errors hardly show on it"]
        if scale * expected > tolerance:
            scale = tolerance / expected
            neurons, measured = at(scale)
        measured = replace(measured, error=max(measured.error, scale * expected))
    warn_of(doubts, "The quanta come from the actor's weights as much as from it")
    if measured.error > tolerance * UNREACHED:
        _warn_unreached(measured.error, tolerance, encoding.digits, lambda more: search(more)[1][1].error)
    return replace(neurons, alpha=encoding.alpha), measured


def _encode(recording: Recording, quanta: tuple[FloatArray, ...], encoding: Encoding) -> Encoded:
    if recording.run is None:
        return encode(recording, quanta, encoding)
    from snn_policy.calibration.graph_open_loop import encode_graph

    return encode_graph(recording, recording.run, quanta, encoding)


def _decides_nothing(recording: Recording, measured: OpenLoop, tolerance: float, independent: float) -> bool:
    """Return whether the error on the recording cannot tell how large the quanta may be.

    Args:
        independent: the error that neurons with independent errors would have.
    """
    hides = measured.spikes[0] == 0 or independent > MOST_ABOVE_INDEPENDENT * tolerance
    if measured.error < tolerance / 2 or (hides and measured.error <= tolerance * UNREACHED):
        return True
    return distinct_rows(recording.inputs, HANDFUL) < HANDFUL


def _bisected(
    at: Callable[[float], Encoded], tolerance: float, passes: Passes, precision: float
) -> tuple[float, Encoded]:
    """Return the scale whose error is nearest to the tolerance, within a share of it, and what it gives."""

    def distance(tried: tuple[float, Encoded]) -> float:
        return abs(tried[1][1].error / tolerance - 1)

    low, high, scale = SMALLEST_SCALE, LARGEST_SCALE, 1.0
    best = tried = scale, at(scale)
    for _ in range(BISECTION_STEPS):
        error = tried[1][1].error
        if distance(tried) < precision or high / low < 1 + precision / 10:
            break
        low, high = (scale, high) if error < tolerance else (low, scale)
        scale = _next_scale(scale, low, high, error, tolerance)
        passes.note = f" (error {error:.4f}, {tolerance:g} wanted)"
        tried = scale, at(scale)
        best = min(best, tried, key=distance)  # the error jumps, most of all on short recordings
    return best


def _warn_unreached(
    error: float, tolerance: float, digits: tuple[int, ...], error_with: Callable[[tuple[int, ...]], float]
) -> None:
    """Say what was reached, and advise only what was tried and helps."""
    more = tuple(min(max(2 * count, ENOUGH_DIGITS), MOST_DIGITS) for count in digits)
    reached = error if more == digits else error_with(more)
    advice = f"a larger tolerance, such as {error:.2g}; more digits than {digits} do not help"
    if reached <= tolerance * UNREACHED:
        advice = f"more digits than {digits} ({max(more)} are enough), or a larger tolerance"
    elif reached < error / 2:
        advice = f"a larger tolerance; with more digits than {digits}, no less than {reached:.2g} is reached"
    warn(f"tolerance {tolerance}: not reached, the RMS action error is {error:.3g}; allow {advice}")


def _next_scale(scale: float, low: float, high: float, error: float, tolerance: float) -> float:
    """Return the scale to try next: the error grows about linearly with it; kept well inside the bracket."""
    guess = scale * (tolerance / error if error > 0 else 8.0)
    if low == SMALLEST_SCALE or high == LARGEST_SCALE:
        return float(np.clip(guess, max(low, scale / 8), min(high, scale * 8)))
    margin = (high / low) ** 0.1
    return float(np.clip(guess, low * margin, high / margin))


def given_neurons(
    actor: Actor,
    observations: FloatArray,
    quanta: tuple[FloatArray, ...],
    encoding: Encoding,
    passes: Passes,
) -> tuple[SigmaDeltaNeurons, OpenLoop]:
    """Return neurons with explicit quanta, (neurons,) per stage; offset, and predictor if "auto", from the data.

    Where the recording says too little, a warning says what about, and the error given is one that is expected.
    """
    recording = Recording(actor, observations, passes)
    neurons, measured = _encode(recording, quanta, encoding)
    doubts = recording_doubts(recording)
    if doubts or measured.error == 0:
        expected = _independent_error(recording, _sensitivities(recording), quanta, encoding.base)
        measured = replace(measured, error=max(measured.error, expected))
    warn_of(doubts, "The error is estimated from the actor's weights as much as from it")
    return neurons, measured


def _independent_error(
    recording: Recording, sensitivities: list[npt.NDArray[np.float64]], quanta: Sequence[npt.NDArray[Any]], base: float
) -> float:
    """Return the RMS action error, per unit of s, of independent rounding errors that are uniform within ±k·q."""
    reach = (1 + 1 / base) / 2
    squares = sum(float(np.sum((q * g) ** 2)) for q, g in zip(quanta, sensitivities, strict=True))
    return reach * float(np.sqrt(squares / 3 / recording.actor.head.outputs))


def _quantum_shapes(recording: Recording) -> list[npt.NDArray[np.float64]]:
    """Return ε_l / g_j per stage, for s = 1."""
    return _shapes(recording, _sensitivities(recording))


def _shapes(recording: Recording, sensitivities: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    last, shapes = recording.actor.graph.read_last, []
    for stage, g in enumerate(sensitivities):
        share = FIRST_SHARE if stage == 0 else LAST_SHARE if stage in last else MIDDLE_SHARE
        floored = np.maximum(g, SENSITIVITY_FLOOR * g.max())
        shapes.append(share / floored if g.max() > 0 else share * _spread(recording, stage))
    return shapes


def _spread(recording: Recording, stage: int) -> npt.NDArray[np.float64]:
    """Return the RMS of a stage's values around the offset, (neurons,); its largest neuron's where it is 0; else 1."""
    actor, total = recording.actor, np.zeros(recording.actor.widths[stage])
    for h in _around_offset(recording, stage):
        total += np.einsum("rj,rj->j", h, h, dtype=np.float64)
    spread = np.sqrt(group_means(total, actor.groups[stage]) / len(recording.inputs))
    return np.where(spread > 0, spread, spread.max() or 1.0)


def _around_offset(recording: Recording, stage: int) -> Iterator[FloatArray]:
    """Yield a stage's values less its offset, (rows, neurons), piece by piece."""
    if recording.run is not None:
        offset = recording.offset_of(stage)
        yield from (chunk - (0 if offset is None else offset) for chunk in chunks(recording.run.values[stage]))
        return
    actor = recording.actor
    for chunk in chunks(recording.inputs):
        before = actor.layers[stage - 1].activation
        yield before(forward(actor, chunk)[stage - 1]) if stage and before is not None else chunk - recording.offset


def _sensitivities(recording: Recording) -> list[npt.NDArray[np.float64]]:
    """Return g per stage: sqrt(mean over the data of Σ_actions (∂action/∂h_j)²), actions in their unit."""
    return _sensitivities_and_flat_layers(recording)[0]


def _sensitivities_and_flat_layers(recording: Recording) -> tuple[list[npt.NDArray[np.float64]], tuple[int, ...]]:
    """Return g per stage, and the hidden layers taken for linear, being flat on the whole recording."""
    if recording.run is not None:
        return _through_the_graph(recording, recording.run)
    sensitivities, steepest = _averaged(recording, ())
    flat = tuple(index for index, slope in enumerate(steepest) if slope < FLAT_SLOPE)
    return (_averaged(recording, flat)[0] if flat else sensitivities), flat


def _through_the_graph(
    recording: Recording, run: "Trajectory"
) -> tuple[list[npt.NDArray[np.float64]], tuple[int, ...]]:
    from snn_policy.calibration.graph_sensitivity import graph_sensitivities, steepest_slopes

    flat = tuple(index for index, slope in steepest_slopes(run).items() if slope < FLAT_SLOPE)
    squares = graph_sensitivities(run, partial(_head_jacobian, recording), flat)
    shared = zip(squares, recording.actor.groups, strict=True)
    return [np.sqrt(group_means(mean, groups)) for mean, groups in shared], flat


def _averaged(recording: Recording, linear: tuple[int, ...]) -> tuple[list[npt.NDArray[np.float64]], list[float]]:
    """Return g per stage of a chain, and the steepest slope in each hidden layer; those in `linear` have slope 1."""
    actor = recording.actor
    squares, steepest = [np.zeros(layer.inputs) for layer in actor.layers], [0.0] * len(actor.hidden)
    apart = -(-recording.inputs.size // SENSITIVITY_VALUES)
    chosen = recording.inputs[::apart]
    for chunk in chunks(chosen, rows=512):
        pre_activations = forward(actor, chunk)
        jacobian = actor.layers[-1].transposed(_head_jacobian(recording, pre_activations[-1]))
        for stage in reversed(range(len(actor.layers))):
            squares[stage] += np.einsum("raj,raj->j", jacobian, jacobian, dtype=np.float64)
            if stage:
                layer = actor.layers[stage - 1]
                assert layer.activation is not None
                slope = layer.activation.derivative(pre_activations[stage - 1])
                steepest[stage - 1] = max(steepest[stage - 1], float(abs(slope).max()))
                if stage - 1 in linear:
                    slope = np.ones_like(slope)
                jacobian = layer.transposed(jacobian * slope[:, None, :])
    shared = zip(squares, actor.groups, strict=True)
    return [np.sqrt(group_means(total, groups) / len(chosen)) for total, groups in shared], steepest


def _head_jacobian(recording: Recording, y: FloatArray) -> FloatArray:
    """Return (rows, actions, outputs): derivative of what is judged with respect to y."""
    head, outputs = recording.actor.head, y.shape[1]
    if head.kind == "argmax":
        own = np.repeat(np.arange(len(head.choices)), head.choices)
        alike = own[:, None] == own
        slope = np.eye(outputs) - alike / alike.sum(axis=1, keepdims=True)
        return np.broadcast_to(slope / recording.unit[:, None], (len(y), outputs, outputs)).astype(np.float32)
    slope = head_slope(recording.actor, y)
    if recording.saturated.any():
        slope = np.where(recording.saturated, head.scale, slope)
    return (np.eye(outputs) * (slope / recording.unit)[:, :, None]).astype(np.float32)
