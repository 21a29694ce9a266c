"""The sigma-delta neuron's calibration: recorded observations and a tolerance → quanta and predictors.

Equations: docs/methods.md §1, "The sigma-delta neuron" (this project's own).
1. Sensitivity g_j: the RMS over the data of ‖∂action/∂h_j‖, floored at 10⁻³ of its stage's largest.
   Quantum q_j = s·ε_l/g_j, ε = (0.02, 0.03, …, 0.03, 0.01) for the first, the middle and the last stage.
   In a convolution, the positions of a channel share g (their RMS), q and γ.
2. Predictor γ_j: whichever of 0 and 1 spikes less on the data, which must be consecutive decisions.
3. s: bisected until the open-loop RMS action error equals the tolerance.
Errors are in units of the action's half-range; a discrete action's unit is half the RMS spread between its
logits, whose common part does not count.
"""

import warnings

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.neurons import SigmaDeltaNeurons
from snn_policy.open_loop import OpenLoop, Predictor, Recording, encode, forward, group_means
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.recordings import chunks

FIRST_SHARE, MIDDLE_SHARE, LAST_SHARE = 0.02, 0.03, 0.01
SENSITIVITY_FLOOR = 1e-3
BISECTION_PRECISION = 0.005
BISECTION_STEPS = 30
UNREACHED = 1.1
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-20, 2.0**20
SENSITIVITY_VALUES = 2**24
"""Sensitivities are averaged over at most so many recorded values, evenly spaced: some 250 images, any vectors."""


def default_digits(stages: int) -> tuple[int, ...]:
    """D = (6, 4, …, 4, 6), one per stage."""
    return tuple(6 if stage in (0, stages - 1) else 4 for stage in range(stages))


def calibrated_neurons(
    actor: Actor,
    observations: FloatArray,
    tolerance: float,
    *,
    digits: tuple[int, ...],
    base: float,
    predictor: Predictor,
    passes: Passes,
) -> tuple[SigmaDeltaNeurons, OpenLoop]:
    """Neurons whose open-loop RMS action error on the (consecutive) observations is the tolerance.

    Where even silent neurons err less than the tolerance, the quanta end at their upper limit. Where the digits do
    not allow the tolerance, a warning says what was reached.
    """
    recording = Recording(actor, observations, passes)
    shapes = _quantum_shapes(recording)

    def at(scale: float) -> tuple[SigmaDeltaNeurons, OpenLoop]:
        quanta = tuple((shape * scale).astype(np.float32) for shape in shapes)
        return encode(recording, quanta, digits, base, predictor)

    def distance(tried: tuple[SigmaDeltaNeurons, OpenLoop]) -> float:
        return abs(tried[1].error / tolerance - 1)

    low, high, scale, tried = SMALLEST_SCALE, LARGEST_SCALE, 1.0, at(1.0)
    best = tried
    for _ in range(BISECTION_STEPS):
        error = tried[1].error
        if distance(tried) < BISECTION_PRECISION or high / low < 1 + BISECTION_PRECISION / 10:
            break
        low, high = (scale, high) if error < tolerance else (low, scale)
        scale = _next_scale(scale, low, high, error, tolerance)
        passes.note = f" (error {error:.4f}, {tolerance:g} wanted)"
        tried = at(scale)
        best = min(best, tried, key=distance)  # the error jumps, most of all on short recordings
    if best[1].error > tolerance * UNREACHED:
        warnings.warn(
            f"tolerance {tolerance}: not reached, the RMS action error is {best[1].error:.3g}; allow more digits "
            f"than {digits}, or a larger tolerance",
            stacklevel=4,
        )
    return best


def _next_scale(scale: float, low: float, high: float, error: float, tolerance: float) -> float:
    """The error grows about linearly with the scale: try that first, kept well inside the bracket."""
    guess = scale * (tolerance / error if error > 0 else 8.0)
    if low == SMALLEST_SCALE or high == LARGEST_SCALE:
        return float(np.clip(guess, max(low, scale / 8), min(high, scale * 8)))
    margin = (high / low) ** 0.1
    return float(np.clip(guess, low * margin, high / margin))


def given_neurons(
    actor: Actor,
    observations: FloatArray,
    quanta: tuple[FloatArray, ...],
    *,
    digits: tuple[int, ...],
    base: float,
    predictor: Predictor,
    passes: Passes,
) -> tuple[SigmaDeltaNeurons, OpenLoop]:
    """Neurons with explicit quanta, (neurons,) per stage; offset, and predictor if "auto", from the data."""
    return encode(Recording(actor, observations, passes), quanta, digits, base, predictor)


def _quantum_shapes(recording: Recording) -> list[npt.NDArray[np.float64]]:
    """ε_l / g_j per stage, for s = 1."""
    sensitivities = _sensitivities(recording)
    last = len(sensitivities) - 1
    shapes = []
    for stage, g in enumerate(sensitivities):
        share = FIRST_SHARE if stage == 0 else LAST_SHARE if stage == last else MIDDLE_SHARE
        floored = np.maximum(g, SENSITIVITY_FLOOR * g.max())
        shapes.append(np.where(floored > 0, share / np.where(floored > 0, floored, 1), 0.0))
    return shapes


def _sensitivities(recording: Recording) -> list[npt.NDArray[np.float64]]:
    """g per stage: sqrt(mean over the data of Σ_actions (∂action/∂h_j)²), actions in their unit."""
    actor = recording.actor
    squares = [np.zeros(layer.inputs) for layer in actor.layers]
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
                jacobian = layer.transposed(jacobian * slope[:, None, :])
    shared = zip(squares, actor.groups, strict=True)
    return [np.sqrt(group_means(total, groups) / len(chosen)) for total, groups in shared]


def _head_jacobian(recording: Recording, y: FloatArray) -> FloatArray:
    """(rows, actions, outputs): derivative of what is judged with respect to y."""
    head, outputs = recording.actor.head, y.shape[1]
    if head.kind == "argmax":
        own = np.repeat(np.arange(len(head.choices)), head.choices)
        alike = own[:, None] == own
        slope = np.eye(outputs) - alike / alike.sum(axis=1, keepdims=True)
        return np.broadcast_to(slope / recording.unit[:, None], (len(y), outputs, outputs)).astype(np.float32)
    if head.kind == "tanh":
        slope = head.scale * (1 - np.tanh(y) ** 2) * (abs(y) < head.pre_clip)
    else:
        slope = ((y > head.low) & (y < head.high)).astype(np.float32)
    return (np.eye(outputs) * (slope / recording.unit)[:, :, None]).astype(np.float32)
