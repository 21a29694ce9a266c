"""Is an exported graph or program the policy? Both decide from the same states on the same observations.

The reference is `SpikingNetwork.decide` on NumPy. Every decision starts from a shared state, because a neuron whose
potential lies within rounding of its threshold may fire in one program and not in the other (a *flip*), and from there
on two rollouts go different ways, both of them right.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from snn_policy.ann.layers import Head
from snn_policy.calibration.action_units import error_unit
from snn_policy.exporting.description import Description
from snn_policy.exporting.graph_session import Graph, Outcome
from snn_policy.exporting.rounding import ROUNDING as ROUNDING
from snn_policy.exporting.rounding import outputs_and_rounding
from snn_policy.protocol import Array, FloatArray, as_batch
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons

DECISIONS = 200
OBSERVATIONS = 500
"""Each is decided on twice: a thousand decisions."""
COMPARED = ("memory", "residual")
"""The memories of single neurons that the reference has, too; the first that a network has shows its flips."""
CELL, CELL_UNIT = "cell", 1e-2
"""What cells remember is analog: differences count as shares of its size, where that is above 1, and in this unit."""
FEW_FLIPS = 3
"""So few are chance, in networks too small for a rate."""
MOST_FLIPS, LARGEST_DIFFERENCE, LARGEST_MEMORY_DIFFERENCE = 1e-4, 1e-5, 1e-2


@dataclass(frozen=True)
class Verification:
    """Say what the comparison of one graph with the policy found.

    Attributes:
        graph: "decision" or "step".
        decisions: half of them from a reset, half from the states of a running policy.
        flips: neurons whose memory, or spikes, differ by more than rounding, counted in the first layer that has any:
            the layers after it decide on other inputs. `flip_rate`: by neurons and decisions.
        action_difference: of all actions in decisions without flips the one nearest to its limit, in the unit of the
            calibration: half-ranges, where infinite the spread over the observations; of discrete actions 1 where any
            choice was another and not for a tie.
        action_difference_with_flips: the largest in the others.
        memory_differences: per memory, the largest in decisions without flips, in quanta or thresholds; of what cells
            remember in `CELL_UNIT`.
        action_limit: `LARGEST_DIFFERENCE`, or the rounding of that action's sum, if that is larger.
        flip_limit: `MOST_FLIPS`, or the share of potentials that are within rounding of a threshold, if that is larger.
    """

    graph: str
    decisions: int
    flips: int
    flip_rate: float
    action_difference: float
    action_difference_with_flips: float
    memory_differences: dict[str, float]
    action_limit: float = LARGEST_DIFFERENCE
    flip_limit: float = MOST_FLIPS

    @property
    def passed(self) -> bool:
        """Return whether the graph stands for the policy: differences of rounding, and hardly any flip."""
        memories = all(difference <= LARGEST_MEMORY_DIFFERENCE for difference in self.memory_differences.values())
        rarely = self.flip_rate < self.flip_limit or self.flips <= FEW_FLIPS
        return rarely and self.action_difference <= self.action_limit and memories

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


class Decider(Protocol):
    """Describe what can be compared with a network: an exported graph, or whatever decides from given memories."""

    @property
    def description(self) -> Description: ...

    def run(self, obs: FloatArray, memory: tuple[FloatArray, ...], /) -> Outcome:
        """Return the action, the memories after it, and the counts, of any content where none are described."""
        ...


def verify(network: SpikingNetwork, path: Path, observations: npt.NDArray[Any]) -> Verification:
    """Compare the graph at `path` with the network, twice per observation: from a reset, and along the observations.

    Args:
        observations: (N, *observation_shape) consecutive.

    Raises:
        SourceError: not a graph of this package, or not of a policy with these memories.
    """
    return compare(network, Graph(path), observations)


def compare(network: SpikingNetwork, session: Decider, observations: npt.NDArray[Any]) -> Verification:
    """Compare any exported form of the network with it, as `verify` does a graph."""
    rows = session.description.batch or 1
    recorded, _ = as_batch(observations, network.actor.observation_shape, "observations")
    tally, state = _Tally(network, session, recorded), network.initial_state(rows)
    for obs in recorded:
        batch = np.repeat(obs[None], rows, axis=0)
        tally.compare(batch, network.initial_state(rows))
        state = tally.compare(batch, state)
    return tally.result()


class _Tally:
    """Decide both ways, and keep the largest differences."""

    def __init__(self, network: SpikingNetwork, session: Decider, observations: FloatArray) -> None:
        self._network, self._session, self._about = network, session, session.description
        self._calls = self._about.timesteps if self._about.graph == "step" else 1
        y, rounding = outputs_and_rounding(network.actor, observations)
        self._unit, self._rounding = _memory_unit(network), _memory_rounding(network, rounding[:-1])
        self._ends = np.cumsum(network.spiking_widths)[:-1]
        unresolved = self._rounding > 0.5 * self._unit
        self._resolved = np.array([not part.any() for part in np.split(unresolved, self._ends)])
        self._rounding = self._rounding + np.where(unresolved, self._unit, 0)  # whether these fire is chance
        self._span = error_unit(network.actor, y)
        self._limits = np.maximum(LARGEST_DIFFERENCE, rounding[-1] * abs(network.actor.head.scale) / self._span)
        self._tie = 2 * rounding[-1].max(initial=0)
        self._decisions, self._flips, self._neurons, self._nearest = 0, 0, 0, (0.0, LARGEST_DIFFERENCE)
        self._largest_with_flips, self._memories = 0.0, {}

    def compare(self, batch: FloatArray, state: Any) -> Any:
        """Make one decision from this state; gives the reference's new state."""
        action, after, decision = self._network.decide(batch, state)
        memory = tuple(
            np.asarray(getattr(state, name, np.zeros((len(batch), width), np.float32)))
            for name, width in self._about.memories
        )
        outcome = self._session.run(batch, memory)
        counts = outcome.counts
        for _ in range(self._calls - 1):
            outcome = self._session.run(batch, outcome.memory)
            counts = counts + outcome.counts
        differences = self._differences(outcome.memory, after)
        flips = self._by_layer(outcome.memory, after)
        if self._about.counted:
            counted = abs(counts[:, : len(flips)] - decision.spikes).sum(axis=0)
            flips = np.maximum(flips, np.where(self._resolved, counted, 0))
        first = int(flips[flips > 0][0]) if flips.any() else 0
        self._note_memories(first, differences, len(batch))
        if self._network.actor.discrete:
            self._note_choices(first > 0, outcome.action, action, batch, state)
        else:
            self._note_actions(first > 0, abs(outcome.action - action) / self._span)
        return after

    def _by_layer(self, memory: Any, after: Any) -> Array:
        """Return (spiking layers,) neurons that differ by more than rounding."""
        difference, *_ = (abs(mine - getattr(after, name)) for (name, _), mine
                          in zip(self._about.memories, memory, strict=True) if name in COMPARED)  # fmt: skip
        flipped = difference > 0.5 * self._unit + self._rounding
        return np.array([int(part.sum()) for part in np.split(flipped, self._ends, axis=1)][: len(self._about.layers)])

    def _differences(self, memory: Any, after: Any) -> dict[str, Array]:
        """Return the differences of every memory that the reference has too, in units of a neuron's smallest spike, or
        of what rounds away."""
        found, unit = {}, np.maximum(self._unit, self._rounding / LARGEST_MEMORY_DIFFERENCE)
        for (name, _), mine in zip(self._about.memories, memory, strict=True):
            if name == "timestep":
                found[name] = abs(mine)
            elif hasattr(after, name):
                expected = getattr(after, name)
                size = unit if name in COMPARED else CELL_UNIT * np.maximum(abs(expected), 1) if name == CELL else 1.0
                found[name] = abs(mine - expected) / size
        return found

    def _note_memories(self, flips: int, differences: dict[str, Array], rows: int) -> None:
        self._decisions += 1
        self._flips += flips
        self._neurons += rows * len(self._unit)
        for name, difference in differences.items():
            worst = 0.0 if flips else float(difference.max(initial=0))
            self._memories[name] = max(self._memories.get(name, 0.0), worst)

    def _note_actions(self, flipped: bool, differences: Array) -> None:
        """Note (rows, actions) in units."""
        if flipped:
            self._largest_with_flips = max(self._largest_with_flips, float(differences.max()))
            return
        worst = int((differences / self._limits).max(axis=0).argmax())
        found = float(differences[:, worst].max()), float(self._limits[worst])
        self._nearest = max(self._nearest, found, key=lambda candidate: candidate[0] / candidate[1])

    def _note_choices(self, flipped: bool, mine: Array, expected: Array, batch: FloatArray, state: Any) -> None:
        """Note another choice, but for logits that differ by no more than rounding."""
        if (mine == expected).all():
            return
        logits, rows = self._logits(batch, state), np.arange(len(batch))
        margin = np.where(mine == expected, 0.0, logits[rows, expected] - logits[rows, mine])
        self._note_actions(flipped, (margin > self._tie).astype(np.float64)[:, None])

    def _logits(self, batch: FloatArray, state: Any) -> Array:
        actor = self._network.actor
        unbounded = np.full(actor.head.outputs, np.inf)
        analog = replace(actor, head=Head.clip(-unbounded, unbounded))
        return replace(self._network, actor=analog).decide(batch, state)[0]

    def result(self) -> Verification:
        rate = self._flips / max(self._neurons, 1)
        near = np.minimum(self._rounding / self._unit, 1)  # the share of potentials within rounding of a threshold
        limit = max(MOST_FLIPS, float(near.sum()) / max(len(near), 1) / 16)
        return Verification(self._about.graph, self._decisions, self._flips, rate, self._nearest[0],
                            self._largest_with_flips, self._memories, self._nearest[1], limit)  # fmt: skip


def _memory_rounding(network: SpikingNetwork, rounding: list[Array]) -> npt.NDArray[np.float64]:
    """Return (neurons,) what rounding may change of a memory in one decision.

    A neuron whose smallest spike is not far above it was nearly silent on the recording, or must resolve very much:
    rounding decides when it fires.
    """
    if isinstance(network.neurons, SigmaDeltaNeurons):
        return np.concatenate(rounding)
    return np.concatenate([np.zeros(0), *(error * network.neurons.timesteps for error in rounding[1:])])


def smallest_change(network: SpikingNetwork) -> FloatArray:
    """Return (neurons of all spiking layers,) the size of the smallest spike; 1 for dead neurons."""
    neurons = network.neurons
    sizes = neurons.quanta if isinstance(neurons, SigmaDeltaNeurons) else neurons.thresholds
    if isinstance(neurons, MembraneNeurons) and neurons.model == "mt":
        sizes = tuple(size * 2.0 ** (1 - neurons.levels) for size in sizes)
    joined = np.concatenate([np.zeros(0, np.float32), *sizes])
    return np.where(joined > 0, joined, np.float32(1))


def _memory_unit(network: SpikingNetwork) -> FloatArray:
    """Return (neurons,) the sizes of `smallest_change`; infinite where a dead neuron's residual is clipped."""
    unit = smallest_change(network)
    if isinstance(network.neurons, SigmaDeltaNeurons):
        return unit
    dead = np.concatenate([np.zeros(0, np.bool_), *(theta == 0 for theta in network.neurons.thresholds)])
    return np.where(dead, np.float32(np.inf), unit)


def plausible_observations(network: SpikingNetwork, count: int = DECISIONS) -> FloatArray:
    """Return (count, *observation_shape) a slow random walk around the mean observation, where nothing was recorded."""
    rng, normaliser, neurons = np.random.default_rng(0), network.actor.normaliser, network.neurons
    shape = network.actor.observation_shape
    walk = np.zeros((count, *shape))
    for k in range(count):
        walk[k] = 0.95 * walk[k - 1] + np.sqrt(1 - 0.95**2) * rng.normal(size=shape)
    if normaliser is not None:
        return (walk * normaliser.scale + normaliser.mean).astype(np.float32)
    centre = neurons.offset.reshape(shape) if isinstance(neurons, SigmaDeltaNeurons) else 0.0
    return (walk + centre).astype(np.float32)


def observations_to_verify(network: SpikingNetwork, observations: Any) -> FloatArray:
    """Return `OBSERVATIONS` of those given, over and over where they are fewer, or a random walk for None."""
    if observations is None:
        return plausible_observations(network, OBSERVATIONS)
    given, _ = as_batch(observations, network.actor.observation_shape, "observations")
    return given[np.arange(OBSERVATIONS) % len(given)]
