"""Weights rounded to float16, so that a bundle takes half the room, and what that changes of the actor's actions.

The network is rounded first, and stored so: a policy that is loaded acts, to the bit, as the rounded one.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Map
from snn_policy.calibration.action_units import choice_scores, error_unit, unit_name
from snn_policy.calibration.recordings import chunks
from snn_policy.calibration.trajectories import trajectory
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray, as_batch
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons

OBSERVATIONS = 200
LARGEST_CHANGE = 1e-3
"""Of an action, in half-ranges, that still counts as the same policy."""


def as_float16(
    network: SpikingNetwork, observations: FloatArray | None = None
) -> tuple[SpikingNetwork, dict[str, Any]]:
    """Return the network with rounded weights, and what its card has to say of it.

    Args:
        observations: (N, *observation_shape) to compare the actions on; `OBSERVATIONS` random ones by default.

    Raises:
        ValueError: a weight beyond float16's range, or an action that changes by more than `LARGEST_CHANGE`.
    """
    if observations is None:
        seen = drawn_observations(network)
    else:
        seen, _ = as_batch(observations, network.actor.observation_shape, "observations")
    other = rounded(network)
    change = change_of_actions(network.actor, other.actor, seen)
    if not change < LARGEST_CHANGE:
        limit = f"not less than {LARGEST_CHANGE}"
        raise ValueError(f"dtype 'float16': rounding changes an action by {change:.1e}, {limit}; save with float32")
    return other, {
        "weights": "float16",
        "observations": len(seen),
        "largest_change_of_an_action": change,
        "unit": unit_name(network.actor),
    }


def rounded(network: SpikingNetwork) -> SpikingNetwork:
    """Return the network with every weight rounded to the nearest float16; biases, norms and thresholds stay.

    Raises:
        ValueError: a weight beyond float16's range, naming its layer or stage.
    """
    graph, stages = network.actor.graph, []
    for place, stage in enumerate(graph.stages):
        name = f"layers.{place}" if graph.is_chain else f"stage {place + 1}"
        connections = [replace(one, map=_rounded_map(one.map, name)) for one in stage.connections]
        stages.append(replace(stage, connections=tuple(connections)))
    return replace(network, actor=replace(network.actor, graph=replace(graph, stages=tuple(stages))))


def _rounded_map(given: Map, name: str) -> Map:
    if isinstance(given, Select):
        return given
    with np.errstate(over="ignore"):
        weight = given.weight.astype(np.float16).astype(np.float32)
    if not np.isfinite(weight).all():
        raise ValueError(f"{name}: a weight beyond 65504 does not fit float16; save with float32")
    return replace(given, weight=weight)


def change_of_actions(before: Actor, after: Actor, observations: FloatArray) -> float:
    """Return the largest change of an action, in half-ranges.

    Of a discrete actor: what the new choice lacks to the best logit, in half-spreads; 0 where all choices are the same.

    Args:
        observations: (N, *observation_shape).
    """
    y, other = _outputs(before, observations), _outputs(after, observations)
    if not before.discrete:
        return float((abs(before.head(y) - after.head(other)) / error_unit(before, y)).max())
    judged = (y / error_unit(before, y)).astype(np.float32)
    pairs = zip(choice_scores(before, judged), choice_scores(after, other), strict=True)
    rows = np.arange(len(y))
    return max(float((scores.max(axis=1) - scores[rows, new.argmax(axis=1)]).max()) for scores, new in pairs)


def drawn_observations(network: SpikingNetwork, count: int = OBSERVATIONS) -> FloatArray:
    """Return (count, *observation_shape) observations around the mean, as far as normaliser and neurons tell of it."""
    actor, neurons = network.actor, network.neurons
    noise = np.random.default_rng(0).normal(size=(count, *actor.observation_shape)).astype(np.float32)
    if isinstance(neurons, SigmaDeltaNeurons):
        noise += neurons.offset.reshape(actor.observation_shape)
    if actor.normaliser is None:
        return noise
    return (noise * actor.normaliser.scale + actor.normaliser.mean).astype(np.float32)


def _outputs(actor: Actor, observations: FloatArray) -> FloatArray:
    """Return (N, outputs) of the last layer; a recurrent actor takes the observations for one episode."""
    if not actor.graph.is_chain:
        return trajectory(actor.graph, actor.inputs(observations), None, Passes()).outputs
    outputs = []
    for chunk in chunks(observations, rows=32):
        h = actor.inputs(chunk)
        for layer in actor.layers:
            z = layer.batched(h)
            h = z if layer.activation is None else layer.activation(z)
        outputs.append(h)
    return np.concatenate(outputs)
