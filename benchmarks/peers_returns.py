"""Run the same episodes with the ANN, with this package's conversions, and with the peers' networks of one actor.

Every conversion is calibrated on the same recorded observations; episode i has the same seed for all. A cell is one
network at one T in all its episodes; cells are independent of each other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

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
from snn_policy.evaluation import statistics
from snn_policy.evaluation.evaluate import evaluate_in
from snn_policy.exported import names, path
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import MembraneNeurons

ACTORS = ("tqc-HalfCheetah-v3", "sac-Walker2d-v3", "ppo-Hopper-v3", "td3-Hopper-v5")
TANH_ACTOR = "trpo-Swimmer-v3"
TIMESTEPS = (4, 8, 16, 32)
RECORDED, SEED = 10_000, 5_000
GAIN = 4.0
"""Of sinabs' "scale up the weights of the first layer by a factor of 2 to 10"."""
ANN, SIGMA_DELTA, CRPI, LOOP = "ANN", "sigma-delta", "IF, CRPI", "eager IF loop"
SPIKINGJELLY = tuple(f"SpikingJelly, {name}" for name in RECIPES)
DEFAULT, SCALED = "sinabs, default", f"sinabs, normalised × {GAIN:g}"
PEERS = (*SPIKINGJELLY, DEFAULT, SCALED, LOOP)
CARRIED = (SPIKINGJELLY[2], SCALED)
"""Peers that are also run without a reset between the decisions of an episode."""
CARRIED_TIMESTEPS = (4, 16)
ORDER = (1, 16, 4, 32, 8)
KEY = ("peer", "timesteps", "carries")
Row = dict[str, Any]


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
def subject(name: str, recorded: int = RECORDED) -> Subject:
    """Return a reference actor or a shipped one, with observations of its own episodes."""
    actor = load_actor(path(name) if name in names() else REFERENCE_ACTORS / name)
    return Subject(name, actor, str(actor.env_id), actor.collect(str(actor.env_id), steps=recorded, seed=0))


@dataclass(frozen=True)
class Cell:
    """Name one network: whose it is, its T, and whether membranes are left as they are between decisions."""

    peer: str
    timesteps: int = 1
    carries: bool = False

    @property
    def key(self) -> Row:
        return {"peer": self.peer, "timesteps": self.timesteps, "carries": self.carries}


def cells(name: str, timesteps: Sequence[int] = TIMESTEPS) -> list[Cell]:
    """Return all cells of an actor; of one whose activations no peer makes spike, the ANN's and sigma-delta's."""
    found = [Cell(ANN), Cell(SIGMA_DELTA)]
    if name != TANH_ACTOR:
        found += [Cell(peer, steps) for steps in timesteps for peer in (CRPI, *PEERS)]
        found += [Cell(peer, steps, True) for steps in CARRIED_TIMESTEPS if steps in timesteps for peer in CARRIED]
    return found


def in_order(names: Sequence[str], timesteps: Sequence[int] = TIMESTEPS) -> list[tuple[str, Cell]]:
    """Return the cells of all actors, so that a run that is stopped has each T of all of them: 1, 16, 4, 32, 8."""
    every = [(name, cell) for name in names for cell in cells(name, timesteps)]
    return sorted(every, key=lambda pair: (ORDER.index(pair[1].timesteps), pair[1].carries))


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


def run_cell(of: Subject, cell: Cell, episodes: int) -> Row:
    """Run the episodes side by side, and return them with the mean costs of a decision."""
    acting = policy(of, cell)
    envs = make_environments(of.environment, of.actor, episodes)
    try:
        found = evaluate_in(acting, envs, episodes=episodes, seed=SEED)
    finally:
        for env in envs:
            env.close()
    return {
        "actor": of.name, **cell.key, "returns": [round(value, 2) for value in found.returns],
        "synaptic_operations": round(found.synaptic_operations, 1),
        "multiply_accumulates": round(found.multiply_accumulates, 1), "spikes": round(found.spikes_per_decision, 1),
        "dense_macs": of.actor.dense_macs,
    }  # fmt: skip


def kept(row: Row, ann: Row) -> dict[str, Any]:
    """Return the retention of the mean return, its 95 % interval paired by seed, and the share of failed episodes."""
    pair = ann["returns"], row["returns"]
    means = (statistics.mean(values) for values in pair)
    return {
        "retention": float(statistics.retention(*means)),
        "interval": statistics.retention_interval(statistics.mean, *pair),
        "failed": statistics.failed_share(row["returns"], ann["returns"]),
        "operations": float(np.divide(row["synaptic_operations"], row["dense_macs"])),
    }


def run_cells(effort: Mapping[str, Any], known: list[Row], store: Callable[[list[Row]], None]) -> list[Row]:
    """Run every cell that is not known yet; `store` is given all rows after each.

    Args:
        effort: `actors` (None: ACTORS and TANH_ACTOR), `episodes`, `recorded`, `timesteps`.
    """
    rows = list(known)
    done = {(row["actor"], *(row[part] for part in KEY)) for row in rows}
    for name, cell in in_order(effort["actors"] or (*ACTORS, TANH_ACTOR), effort["timesteps"]):
        if (name, *cell.key.values()) in done:
            continue
        rows.append(run_cell(subject(name, effort["recorded"]), cell, effort["episodes"]))
        store(rows)
        print(f"{name}, {cell.peer}, T = {cell.timesteps}: {np.mean(rows[-1]['returns']):.1f}", flush=True)
    return rows
