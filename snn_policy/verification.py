"""Is an exported graph the policy? Both decide from the same states on the same observations, and are compared.

The reference is `SpikingNetwork.decide` on NumPy. Every decision starts from a shared state, because a neuron whose
potential lies within rounding of its threshold may fire in one program and not in the other (a *flip*), and from there
on two rollouts go different ways, both of them right.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snn_policy.graph_session import Graph
from snn_policy.network import SpikingNetwork
from snn_policy.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.protocol import FloatArray

if TYPE_CHECKING:
    from snn_policy.policy import SpikingPolicy

DECISIONS = 200
COMPARED = ("memory", "residual")
"""The memories of single neurons that the reference has, too."""
FEW_FLIPS = 3
"""So few are chance, in networks too small for a rate."""
MOST_FLIPS, LARGEST_DIFFERENCE, LARGEST_MEMORY_DIFFERENCE = 1e-4, 1e-5, 1e-2


@dataclass(frozen=True)
class Verification:
    """What the comparison of one graph with the policy found.

    Attributes:
        graph: "decision" or "step".
        decisions: half of them from a reset, half from the states of a running policy.
        flips: neurons whose memory, or spikes, differ by more than rounding, counted in the first layer that has any:
            the layers after it decide on other inputs. `flip_rate`: by neurons and decisions.
        action_difference: the largest in decisions without flips, in half-ranges (where infinite: absolute); of
            discrete actions the share of other choices.
        action_difference_with_flips: the same in the others.
        memory_differences: per memory, the largest in decisions without flips, in quanta or thresholds.
    """

    graph: str
    decisions: int
    flips: int
    flip_rate: float
    action_difference: float
    action_difference_with_flips: float
    memory_differences: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the graph stands for the policy: differences of rounding, and hardly any flip."""
        memories = all(each <= LARGEST_MEMORY_DIFFERENCE for each in self.memory_differences.values())
        rarely = self.flip_rate < MOST_FLIPS or self.flips <= FEW_FLIPS
        return rarely and self.action_difference <= LARGEST_DIFFERENCE and memories

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def verify(policy: "SpikingPolicy", path: Path, observations: npt.NDArray[Any]) -> Verification:
    """Compare the graph at `path` with the policy, twice per observation: from a reset, and along the observations.

    Args:
        observations: (N, *observation_shape) consecutive.

    Raises:
        SourceError: not a graph of this package, or not of a policy with these memories.
    """
    network, session = policy.network, Graph(path)
    rows = session.description.batch or 1
    tally, state = _Tally(network, session), network.initial_state(rows)
    for obs in np.asarray(observations, np.float32):
        batch = np.repeat(obs[None], rows, axis=0)
        tally.compare(batch, network.initial_state(rows))
        state = tally.compare(batch, state)
    return tally.result()


class _Tally:
    """Decides both ways, and keeps the largest differences."""

    def __init__(self, network: SpikingNetwork, session: Graph) -> None:
        self._network, self._session, self._about = network, session, session.description
        self._calls = self._about.timesteps if self._about.graph == "step" else 1
        self._unit, self._span = smallest_change(network), half_range(network)
        self._decisions, self._flips, self._neurons = 0, 0, 0
        self._actions, self._memories = {False: 0.0, True: 0.0}, {}

    def compare(self, batch: FloatArray, state: Any) -> Any:
        """One decision from this state; gives the reference's new state."""
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
        flips = self._by_layer(differences)
        if self._about.counted:
            flips = np.maximum(flips, abs(counts[:, : len(flips)] - decision.spikes).sum(axis=0))
        first = int(flips[flips > 0][0]) if flips.any() else 0
        self._note(first, differences, abs(outcome.action - action) / self._span, len(batch))
        return after

    def _by_layer(self, differences: dict[str, Any]) -> Any:
        """(spiking layers,) neurons that differ by more than rounding."""
        ends = np.cumsum(self._network.spiking_widths)[:-1]
        neurons = next(each for name, each in differences.items() if name in COMPARED)
        return np.array(
            [int((each > 0.5).sum()) for each in np.split(neurons, ends, axis=1)][: len(self._about.layers)]
        )

    def _differences(self, memory: Any, after: Any) -> dict[str, Any]:
        """Of every memory that the reference has too, in units of a neuron's smallest spike."""
        found = {}
        for (name, _), mine in zip(self._about.memories, memory, strict=True):
            if name == "timestep":
                found[name] = abs(mine)
            elif hasattr(after, name):
                unit = self._unit if name in COMPARED else 1.0
                found[name] = abs(mine - getattr(after, name)) / unit
        return found

    def _note(self, flips: int, differences: dict[str, Any], actions: Any, rows: int) -> None:
        self._decisions += 1
        self._flips += flips
        self._neurons += rows * len(self._unit)
        worst = float(np.max(actions != 0)) if self._network.actor.discrete else float(np.max(actions))
        self._actions[flips > 0] = max(self._actions[flips > 0], worst)
        for name, each in differences.items():
            worst = 0.0 if flips else float(each.max(initial=0))
            self._memories[name] = max(self._memories.get(name, 0.0), worst)

    def result(self) -> Verification:
        rate = self._flips / max(self._neurons, 1)
        return Verification(self._about.graph, self._decisions, self._flips, rate, self._actions[False],
                            self._actions[True], self._memories)  # fmt: skip


def smallest_change(network: SpikingNetwork) -> FloatArray:
    """(neurons of all spiking layers,) the size of the smallest spike; 1 for dead neurons."""
    neurons = network.neurons
    sizes = neurons.quanta if isinstance(neurons, SigmaDeltaNeurons) else neurons.thresholds
    if isinstance(neurons, MembraneNeurons) and neurons.model == "mt":
        sizes = tuple(each * 2.0 ** (1 - neurons.levels) for each in sizes)
    joined = np.concatenate([np.zeros(0, np.float32), *sizes])
    return np.where(joined > 0, joined, np.float32(1))


def half_range(network: SpikingNetwork) -> Any:
    """Of every action; 1 where it is infinite or zero, and for discrete actions."""
    if network.actor.discrete:
        return 1
    reach = (network.actor.high.astype(np.float64) - network.actor.low) / 2
    return np.where(np.isfinite(reach) & (reach > 0), reach, 1.0)


def plausible_observations(policy: "SpikingPolicy", count: int = DECISIONS) -> FloatArray:
    """(count, *observation_shape) a slow random walk around the mean observation, where nothing was recorded."""
    rng, normaliser, neurons = np.random.default_rng(0), policy.actor.normaliser, policy.network.neurons
    shape = policy.observation_shape
    walk = np.zeros((count, *shape))
    for k in range(count):
        walk[k] = 0.95 * walk[k - 1] + np.sqrt(1 - 0.95**2) * rng.normal(size=shape)
    if normaliser is not None:
        return (walk * normaliser.scale + normaliser.mean).astype(np.float32)
    centre = neurons.offset.reshape(shape) if isinstance(neurons, SigmaDeltaNeurons) else 0.0
    return (walk + centre).astype(np.float32)
