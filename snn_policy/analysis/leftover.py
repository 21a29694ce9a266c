"""What every neuron's decision leaves over: the residual r, from the memories that a policy keeps anyway.

IF, SNM and MT (docs/methods.md §2): r = max(v[T] − v[0], −M), as the state carries it; v[T] − v[0] where the network's
rule is "plain". Sigma-delta (docs/methods.md §1): r = v − Σs, what the last digit leaves of v = h − c − γ·m + α·r', r'
being what the decision before has handed on. As m' = γ·m + Σs is the memory after it,

    r = h − c + α·r' − m'

and h, the stage's analog value, follows from the memories of the stages that it reads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.calibration.trajectories import received
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.state import State

NEEDED = ("memory", "residual", "cell")
Memories = dict[str, npt.NDArray[Any]]
"""One row's memories after a decision, (1, columns) each: those of its state that `leftover` needs."""


def memories_of(state: State) -> Memories:
    """Return the memories that `leftover` needs."""
    return {name: array for name, array in state._asdict().items() if name in NEEDED}


def leftover(
    network: SpikingNetwork, observations: npt.NDArray[Any], memories: Sequence[Memories]
) -> tuple[FloatArray, ...]:
    """Return r of every spiking layer, (K, neurons) each, along an episode that began with a reset.

    Neurons that never spike (threshold or quantum 0) owe nothing.

    Args:
        observations: (K, *observation_shape).
        memories: after each of the K decisions.
    """
    after = {name: np.concatenate([memory[name] for memory in memories]) for name in memories[0]}
    neurons = network.neurons
    if isinstance(neurons, SigmaDeltaNeurons):
        sizes, owed = neurons.quanta, _sigma_delta(network, observations, after)
    else:
        sizes = neurons.thresholds
        owed = np.split(after["residual"], np.cumsum(network.spiking_widths)[:-1], axis=1)
    return tuple(np.where(size > 0, r, np.float32(0)) for size, r in zip(sizes, owed, strict=True))


def _sigma_delta(network: SpikingNetwork, observations: npt.NDArray[Any], after: Memories) -> list[FloatArray]:
    graph, neurons = network.actor.graph, network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    ends, cells = np.cumsum(graph.widths)[:-1], np.cumsum([stage.cell.memory_width for stage in graph.stages])[:-1]
    before = {name: np.concatenate([np.zeros_like(values[:1]), values[:-1]]) for name, values in after.items()}
    offsets = [neurons.offset, *(graph.start_of(source) for source in range(1, len(graph.widths)))]
    told = [m + c for m, c in zip(np.split(after["memory"], ends, axis=1), offsets, strict=True)]
    earlier = [m + c for m, c in zip(np.split(before["memory"], ends, axis=1), offsets, strict=True)]
    values = [network.actor.inputs(observations.astype(np.float32, copy=False))]
    if "cell" in before:
        kept: Sequence[Any] = np.split(before["cell"], cells, axis=1)
    else:
        kept = [None] * len(graph.stages)
    for stage, cell in zip(graph.stages[:-1], kept, strict=False):
        values.append(stage.cell.advance(received(stage, told, earlier), cell)[0])
    owed = [h - m for h, m in zip(values, told, strict=True)]
    if not neurons.carries:
        return owed
    handed = np.split(before["residual"], ends, axis=1)
    return [r + share * carried for r, share, carried in zip(owed, neurons.alpha, handed, strict=True)]
