"""Check and time a GPU: `engine="torch:cuda"` beside the other engines, and TD3+BC's gradient steps beside the CPU's.

python -m benchmarks.on_a_gpu [--device cuda] [--out FILE.json]
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.random_transitions import random_data
from benchmarks.torch_baselines import sequential
from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.exported import names, path
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings
from snn_policy.protocol import Array
from snn_policy.spiking.network import SpikingNetwork

DECISIONS, ROWS_COMPARED, ROWS_OF_IMAGES = 20, 64, 2
ROWS = (1, 64, 1024, 16384)
STEPS = 320
NEURONS: dict[str, dict[str, Any]] = {
    "IF, T = 8": {"neuron": "if", "timesteps": 8},
    "SNM, T = 8": {"neuron": "snm", "timesteps": 8},
    "MT differential, T = 4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "IF, adaptive calibration": {"neuron": "if", "calibration": SpikeCalibration(adaptive=(0, 3))},
}


def networks() -> dict[str, SpikingNetwork]:
    """Return the shipped policies, and every other neuron on one of their actors."""
    found = {name: SpikingPolicy.load(path(name)).network for name in names()}
    actor = found["td3-HalfCheetah-v5"].actor
    observations = walk(actor.observation_shape, 256)
    return found | {what: convert(actor, observations, **how).network for what, how in NEURONS.items()}


def walk(shape: tuple[int, ...], steps: int, rows: int | None = None) -> Array:
    """Return observations that move a little from one to the next, (steps[, rows], *shape) float32."""
    rng = np.random.default_rng(0)
    sizes = (steps, *([] if rows is None else [rows]), *shape)
    return np.cumsum(rng.normal(0, 0.05, sizes), axis=0).astype(np.float32) + rng.normal(0, 0.5, sizes[1:]).astype("f")


def agreement(network: SpikingNetwork, device: str) -> dict[str, float]:
    """Return how far the device's decisions are from NumPy's, each from NumPy's own state.

    Shares of the action's range; spikes as a share of all: a sum in another order may cross a threshold.
    """
    reference, other = SpikingPolicy(network, engine="numpy"), SpikingPolicy(network, engine=f"torch:{device}")
    head, shape = network.actor.head, network.actor.observation_shape
    rows = ROWS_COMPARED if len(shape) == 1 else ROWS_OF_IMAGES
    worst, apart, spikes, state = 0.0, 0.0, 0.0, reference.initial_state(rows)
    for obs in walk(shape, DECISIONS, rows):
        action, _, own_cost = other.decide(obs, state)
        expected, state, cost = reference.decide(obs, state)
        reach = 1.0 if head.kind == "argmax" else np.asarray(head.high - head.low)
        worst = max(worst, float(np.abs((action - expected) / reach).max()))
        apart += float(np.abs(own_cost.spikes - cost.spikes).sum())
        spikes += float(cost.spikes.sum())
    return {"action": worst, "spikes": apart / max(spikes, 1.0)}


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median duration of a call, after one that does not count."""
    work()
    durations = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        durations.append(time.perf_counter() - begin)
    return median(durations)


def decisions_per_second(network: SpikingNetwork, engine: str, rows: int) -> float:
    policy = SpikingPolicy(network, engine=engine)
    policy.reset(num_envs=rows)
    batches = iter(walk(network.actor.observation_shape, 24, rows))
    return rows / seconds(lambda: policy.act(next(batches)), 5 if rows > 1024 else 20)


def ann_per_second(network: SpikingNetwork, device: str, rows: int) -> float:
    """Return what the ANN decides in torch on the device, observations and actions going there and back."""
    actor = network.actor
    module = torch.nn.Sequential(sequential(actor), torch.nn.Tanh()).to(device)
    batches = iter(walk(actor.observation_shape, 24, rows))
    with torch.inference_mode():
        work = lambda: module(torch.from_numpy(next(batches)).to(device)).cpu().numpy()  # noqa: E731
        return rows / seconds(work, 5 if rows > 1024 else 20)


def training(device: str) -> dict[str, dict[str, float]]:
    """Return milliseconds per gradient step, and how far the device's parameters are from the CPU's after 64."""
    data, found = random_data(), {}
    for activation in ("relu", "qcfs", "spiking"):
        settings = TD3BCSettings(activation=activation)
        here, there, eager = TD3BC(data, settings), TD3BC(data, settings, device), TD3BC(data, settings, device)
        for run in (here, there):
            run.train(64)
        while eager.step < 64:
            eager.train(eager.step + 8)  # no whole block: nothing is captured
        difference = (here.actor.values - there.actor.values.cpu()).abs().max() / here.actor.values.abs().max()
        same = torch.equal(eager.actor.values, there.actor.values)
        took = {}
        for name, run, block in (("cpu", here, 64), ("captured", there, STEPS), ("eager", eager, 24)):
            begin = time.perf_counter()
            goal = run.step + STEPS
            while run.step < goal:
                run.train(min(goal, run.step + block))
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize()
            took[name] = (time.perf_counter() - begin) / STEPS * 1e3
        found[activation] = {**took, "difference": float(difference), "captured is eager": float(same)}
    return found


def main(
    device: Annotated[str, typer.Option(help="torch's name.")] = "cuda",
    out: Annotated[Path | None, typer.Option(help="Everything measured, as JSON.")] = None,
) -> None:
    """Check and time a GPU; see the module."""
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "agreement": {}, "decisions": {}}
    print(f"{name}, torch {torch.__version__}\n\n| policy | furthest action | spikes apart |\n|---|---|---|")
    every = networks()
    for what, network in every.items():
        apart = found["agreement"][what] = agreement(network, device)
        print(f"| {what} | {apart['action']:.1e} | {apart['spikes']:.1e} |", flush=True)
    print("\n| decisions per second, td3-HalfCheetah-v5 | " + " | ".join(f"{rows:,} rows" for rows in ROWS) + " |")
    print("|---|" + "---|" * len(ROWS))
    network = every["td3-HalfCheetah-v5"]
    for engine in ("event", "numpy", "torch", f"torch:{device}"):
        speeds = found["decisions"][engine] = [decisions_per_second(network, engine, rows) for rows in ROWS]
        print(f"| {engine} | " + " | ".join(f"{speed:,.0f}" for speed in speeds) + " |", flush=True)
    speeds = found["decisions"]["ann"] = [ann_per_second(network, device, rows) for rows in ROWS]
    print(f"| the ANN, torch on {device} | " + " | ".join(f"{speed:,.0f}" for speed in speeds) + " |", flush=True)
    found["training"] = training(device)
    columns = ("cpu", "captured", "eager", "difference", "captured is eager")
    print("\n| TD3+BC, ms per step | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for activation, row in found["training"].items():
        print(f"| {activation} | " + " | ".join(f"{row[column]:.2g}" for column in columns) + " |")
    if out is not None:
        out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
