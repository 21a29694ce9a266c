"""Sigma-delta neurons run over a whole recording, stage by stage, on what the stages before have sent: the open loop.

Equations: docs/methods.md §1. A stage's predictors are chosen from all of its spikes, so its values are kept, in memory
or in a file (`recordings.scratch`), until the next stage's are there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.calibration.action_units import choice_scores, error_unit, saturated_outputs
from snn_policy.calibration.episodes import known_starts
from snn_policy.calibration.recordings import chunks, pieces, release, scratch
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.settings import Predictor

if TYPE_CHECKING:
    from snn_policy.calibration.trajectories import Trajectory

BLOCK_VALUES = 2**18
"""So many values are encoded at a time: they stay in a core's cache."""
LEAST_SAVING = 0.1
"""A neuron sends changes (γ = 1) where they save more than this share of the spikes of sending its value afresh:
measured in docs/neuron.md."""
SHORT = 100
"""On fewer rows a share of the spikes is chance, and a residual, which builds up over decisions, shows too little: any
saving counts, and the quanta are fitted without the residual."""


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """Record what sigma-delta neurons do on recorded observations.

    Attributes:
        error: RMS action error in the action's unit (`action_units`, docs/methods.md §1).
        changed_choices: share of observations where a discrete action differs from the ANN's; None if continuous.
        spikes: per decision and stage, (stages,).
    """

    error: float
    changed_choices: float | None
    spikes: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Encoding:
    """Say how stages encode, whatever their quanta: `SigmaDeltaNeurons` says what each means.

    Attributes:
        predictor: "auto" chooses γ per neuron by its spikes.
        alpha: one per stage.
    """

    digits: tuple[int, ...]
    base: float
    predictor: Predictor
    alpha: tuple[float, ...]

    def neurons(
        self, quanta: tuple[FloatArray, ...], predictor: tuple[FloatArray, ...], offset: FloatArray
    ) -> SigmaDeltaNeurons:
        """Return neurons that encode so."""
        return SigmaDeltaNeurons(quanta, predictor, offset, self.digits, self.base, self.alpha)


class Recording:
    """Show the recorded observations seen through the actor.

    Attributes:
        inputs: (N, inputs) normalised; `outputs`: (N, outputs) of the ANN's last layer; `offset`: the mean input.
        unit: (outputs,) of the actions' errors.
        saturated: (outputs,) those that the head holds at a bound nearly throughout, and whose errors are therefore
            measured on what the head is given.
        run: what the ANN does on it where it is no chain; None of chains.
    """

    def __init__(self, actor: Actor, observations: npt.NDArray[Any], passes: Passes | None = None) -> None:
        """See the recorded observations, (N, *observation_shape), through the actor; see `EpisodeRecording`, too."""
        starts, observations = known_starts(observations), np.asarray(observations)
        self.actor = actor
        self.passes = passes or Passes()
        self.passes.begin(len(observations))
        self.inputs = scratch(len(observations), actor.graph.inputs)
        for rows in pieces(observations):
            self.inputs[rows] = actor.inputs(observations[rows].astype(np.float32, copy=False))
            release(self.inputs)
        self.run: Trajectory | None = None
        if not actor.graph.is_chain:
            from snn_policy.calibration.trajectories import trajectory

            self.run = trajectory(actor.graph, self.inputs, starts, self.passes)
        self.offset = self.inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.outputs = self._outputs() if self.run is None else self.run.outputs
        self.unit = error_unit(actor, self.outputs)
        self.saturated = saturated_outputs(actor, self.outputs)

    def _outputs(self) -> FloatArray:
        outputs = []
        for chunk in chunks(self.inputs):
            outputs.append(forward(self.actor, chunk)[-1])
            self.passes.advance(len(chunk))
        return np.concatenate(outputs)

    def offset_of(self, stage: int) -> FloatArray | None:
        """Return c of a telling stage, (neurons,); None for zeros."""
        return self.offset if stage == 0 else self.actor.graph.stages[stage - 1].start

    def errors(self, y: FloatArray) -> tuple[float, float | None]:
        """Return the RMS error of other outputs y (N, outputs), and the share of changed choices; see `OpenLoop`."""
        actor, changed = self.actor, None
        difference = self.judged(y) - self.judged(self.outputs)
        if actor.discrete:
            differs = actor.head(y) != actor.head(self.outputs)
            changed = float(np.mean(differs.reshape(len(y), -1).any(axis=1)))
        return float(np.sqrt(np.mean(difference**2))), changed

    def judged(self, y: FloatArray) -> npt.NDArray[np.float64]:
        """Return in units what is judged: the action; saturated, the head's input; discrete, centred logits."""
        if self.actor.discrete:
            return np.concatenate([_centred(scores) for scores in choice_scores(self.actor, y)], axis=1) / self.unit
        action = self.actor.head(y)
        if self.saturated.any():
            action = np.where(self.saturated, y * self.actor.head.scale, action)
        return action / self.unit


def _centred(scores: FloatArray) -> FloatArray:
    return scores - scores.mean(axis=1, keepdims=True)


def forward(actor: Actor, inputs: FloatArray) -> list[FloatArray]:
    """Return z_1 … z_L of normalised inputs, (rows, outputs) each: plain matrix products, for batches."""
    h, pre_activations = inputs, []
    for layer in actor.layers:
        z = layer.batched(h)
        pre_activations.append(z)
        h = z if layer.activation is None else layer.activation(z)
    return pre_activations


def encode(
    recording: Recording, quanta: tuple[FloatArray, ...], encoding: Encoding
) -> tuple[SigmaDeltaNeurons, OpenLoop]:
    """Run the recording through the spiking layers of a chain, choosing each neuron's predictor on the way.

    A linear layer's product depends on its batch: its pieces are those of the ANN.
    """
    actor, h, predictor = recording.actor, recording.inputs, encoding.predictor
    given = encoding.neurons(quanta, quanta, recording.offset)
    recording.passes.begin(len(h) * len(actor.layers) * (2 if predictor == "auto" else 1))
    chosen, spikes = [], []
    for stage, layer in enumerate(actor.layers):
        offset = recording.offset if stage == 0 else None
        encoder = StageEncoder(h, offset, given, stage, recording.passes)
        gamma = encoder.cheapest(actor.groups[stage]) if predictor == "auto" else encoder.everywhere(predictor)
        following, neurons = scratch(len(h), layer.outputs), encoder.neurons(gamma)
        for rows, known in encoder.run(neurons, BLOCK_VALUES if isinstance(layer, Conv2d) else None):
            z = layer.batched(known)
            following[rows] = z if layer.activation is None else layer.activation(z)
            release(following)
        h = following
        chosen.append(gamma)
        spikes.append(neurons.spikes.sum() / len(h))
    found = encoding.neurons(quanta, tuple(chosen), recording.offset)
    return found, OpenLoop(*recording.errors(h), np.array(spikes))


class _Neurons(NamedTuple):
    """Hold a stage's neurons at work; all (neurons,).

    Attributes:
        residual: None where none is carried.
        spikes: of each neuron so far.
    """

    gamma: FloatArray
    memory: FloatArray
    residual: FloatArray | None
    spikes: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StageEncoder:
    """Encode a stage's recorded values h (decisions, neurons), piece after piece."""

    h: FloatArray
    offset: FloatArray | None
    of: SigmaDeltaNeurons
    stage: int
    passes: Passes

    def run(self, neurons: _Neurons, most: int | None) -> Iterator[tuple[slice, FloatArray]]:
        """Yield rows, at most so many values of them at a time, and what is known of their values, (rows, neurons)."""
        for rows in pieces(self.h, most=most):
            reconstruction = self._encoded(self._values(rows), neurons)
            yield rows, reconstruction if self.offset is None else reconstruction + self.offset
            self.passes.advance(len(reconstruction))

    def cheapest(self, groups: tuple[int, int]) -> FloatArray:
        """Return γ per neuron, equal within a group: 1 where that saves spikes, see `LEAST_SAVING`."""
        afresh, changes = self.costs()
        least = LEAST_SAVING if len(self.h) >= SHORT else 0.0
        return (group_means(changes - (1 - least) * afresh, groups) < 0).astype(np.float32)

    def costs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return each neuron's spikes on the recording, (neurons,): where values are sent afresh, and where changes."""
        afresh, changes = (self.neurons(self.everywhere(gamma)) for gamma in (0, 1))
        for rows in pieces(self.h, most=BLOCK_VALUES):
            values = self._values(rows)
            self._encoded(values, afresh)
            self._encoded(values, changes)
            self.passes.advance(len(values))
        return afresh.spikes, changes.spikes

    def everywhere(self, gamma: int) -> FloatArray:
        return np.full(len(self.of.quanta[self.stage]), gamma, np.float32)

    def neurons(self, gamma: FloatArray) -> _Neurons:
        zero = np.zeros(len(gamma), np.float32)
        return _Neurons(gamma, zero, zero.copy() if self.of.carries else None, np.zeros(len(gamma), np.int64))

    def _values(self, rows: slice) -> FloatArray:
        return self.h[rows] if self.offset is None else self.h[rows] - self.offset

    def _encoded(self, values: FloatArray, neurons: _Neurons) -> FloatArray:
        """Return the reconstruction (rows, neurons) of consecutive values; the neurons' memories and spikes go on."""
        from snn_policy.calibration.encode_sequence import encode_sequence

        reconstruction, of, stage = np.empty_like(values), self.of, self.stage
        encode_sequence(
            values, of.quanta[stage], neurons.gamma, neurons.memory, of.digits[stage], of.powers, reconstruction,
            neurons.spikes, of.alpha[stage] if of.carries else 0.0, neurons.residual,
        )  # fmt: skip
        return reconstruction


def group_means(values: npt.NDArray[Any], groups: tuple[int, int]) -> npt.NDArray[Any]:
    """Return each group's mean in place of its neurons' values, (neurons,): a channel's positions share a quantum."""
    return values if groups[1] == 1 else np.repeat(values.reshape(groups).mean(axis=1), groups[1])
