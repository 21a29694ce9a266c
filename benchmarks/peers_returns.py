"""Run the same episodes with the ANN, with this package's conversions, and with the peers' networks of one actor.

Every conversion is calibrated on the same recorded observations; episode i has the same seed for all. A cell is one
network at one T in all its episodes; cells are independent of each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.peers_cells import (
    ACTORS,
    ANN,
    CRPI,
    DEFAULT,
    GAIN,
    LOOP,
    SIGMA_DELTA,
    SPIKINGJELLY,
    TANH_ACTOR,
    Cell,
    Row,
    missing,
    usable,
)
from benchmarks.peers_networks import (
    RECIPES,
    LoopNetwork,
    PeerNetwork,
    PeerPolicy,
    SinabsNetwork,
    SpikingJellyNetwork,
    normalised,
)
from benchmarks.places import REFERENCE_ACTORS
from benchmarks.torch_baselines import sequential
from snn_policy import IF, Actor, SigmaDelta, SpikingPolicy, convert, load_actor
from snn_policy.environments import make_environments
from snn_policy.evaluation.evaluate import evaluate_in
from snn_policy.exported import names, path
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import MembraneNeurons

SEED = 5_000


@dataclass(frozen=True)
class Subject:
    """Hold an actor, its environment, the recorded observations (N, *shape), and what torch makes of its layers."""

    name: str
    actor: Actor
    environment: str
    observations: FloatArray

    @property
    def modules(self) -> Any:
        return sequential(self.actor)

    @property
    def inputs(self) -> torch.Tensor:
        """Return what the first layer received, (N, n)."""
        return torch.tensor(self.actor.inputs(self.observations))


@lru_cache
def subject(name: str, recorded: int) -> Subject:
    """Return a reference actor or a shipped one, with observations of its own episodes."""
    actor = load_actor(path(name) if name in names() else REFERENCE_ACTORS / name)
    return Subject(name, actor, str(actor.env_id), actor.collect(str(actor.env_id), steps=recorded, seed=0))


def network(of: Subject, cell: Cell) -> PeerNetwork:
    """Return the peer's network of this cell."""
    modules, inputs = of.modules, of.inputs
    if cell.peer == LOOP:
        neurons = if_policy(of.name, len(of.observations), cell.timesteps).network.neurons
        assert isinstance(neurons, MembraneNeurons)
        return LoopNetwork(of.actor, neurons)
    if cell.peer in SPIKINGJELLY:
        recipe = RECIPES[cell.peer.partition(", ")[2]]
        return SpikingJellyNetwork(recipe, modules, inputs, cell.timesteps, cell.carries)
    scaled = modules if cell.peer == DEFAULT else normalised(modules, inputs, GAIN)
    return SinabsNetwork(scaled, cell.timesteps, cell.carries)


@lru_cache
def if_policy(name: str, recorded: int, timesteps: int) -> SpikingPolicy:
    """Return the IF policy of one of `subject`'s actors."""
    of = subject(name, recorded)
    return convert(of.actor, of.observations, neuron=IF(timesteps=timesteps))


def policy(of: Subject, cell: Cell, counting: bool = True) -> Any:
    """Return what acts in this cell: a policy of this package, or a `PeerPolicy`."""
    if cell.peer == ANN:
        return of.actor
    if cell.peer == SIGMA_DELTA:
        return convert(of.actor, of.observations, neuron=SigmaDelta())
    if cell.peer == CRPI:
        return if_policy(of.name, len(of.observations), cell.timesteps)
    return PeerPolicy(of.actor, network(of, cell), counting)


@lru_cache(maxsize=len(ACTORS) + 1)
def environments(name: str, count: int, steps: int | None) -> list[gym.Env]:
    """Return as many environments, whose episodes have at most so many steps; every cell starts them with its seeds."""
    return make_environments(lambda: gym.make(name, max_episode_steps=steps), None, count)


def run_cell(of: Subject, cell: Cell, episodes: int, steps: int | None = None) -> Row:
    """Run the episodes side by side, of at most so many steps, and return them with the mean costs of a decision."""
    envs = environments(of.environment, episodes, steps)
    found = evaluate_in(policy(of, cell), envs, episodes=episodes, seed=SEED)
    return {
        "actor": of.name, **cell.key, "episodes": episodes, "steps": steps, "recorded": len(of.observations),
        "returns": [round(value, 2) for value in found.returns], "dense_macs": of.actor.dense_macs,
        "synaptic_operations": round(found.synaptic_operations, 1),
        "multiply_accumulates": round(found.multiply_accumulates, 1), "spikes": round(found.spikes_per_decision, 1),
    }  # fmt: skip


def run_cells(effort: Mapping[str, Any], known: list[Row], store: Callable[[list[Row]], None]) -> list[Row]:
    """Run every cell that is not known yet; `store` is given all rows after each.

    Args:
        effort: `actors` (None: ACTORS and TANH_ACTOR), `episodes`, `steps` (of an episode at most; None: the
            environment's own limit), `recorded`, `timesteps`.
    """
    rows = usable(known, effort)
    for name, cell in missing(effort["actors"] or (*ACTORS, TANH_ACTOR), effort["timesteps"], rows):
        rows.append(run_cell(subject(name, effort["recorded"]), cell, effort["episodes"], effort["steps"]))
        store(rows)
        print(f"{name}, {cell.peer}, T = {cell.timesteps}: {np.mean(rows[-1]['returns']):.1f}", flush=True)
    return rows
