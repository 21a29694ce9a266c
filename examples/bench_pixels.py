"""Time and memory of one decision from pixels: DrQ-v2's network (random weights), 84×84×9, per engine, T and batch.

    python examples/bench_pixels.py                  # minutes; prints a Markdown table

Each case runs in a process of its own, so that its peak memory can be told; within it, the spiking decision and the
ANN's forward pass take turns, and their ratio is what counts. Pictures drift like a camera's: most pixels stay.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Any

import numpy as np
import typer

CASES: dict[str, dict[str, Any]] = {
    "sigma-delta 0.02": {},
    **{f"IF T={steps}": {"neuron": "if", "timesteps": steps} for steps in (4, 8, 16, 32)},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
}


def pictures(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 9, 84, 84) uint8: a still background with a small square that moves."""
    frames = np.repeat(rng.integers(0, 256, (1, 3, 84, 84), np.uint8), count + 2, axis=0)
    for index, frame in enumerate(frames):
        left = 10 + index % 60
        frame[:, 40:48, left : left + 8] = 255
    return np.concatenate([frames[:-2], frames[1:-1], frames[2:]], axis=1)


def measure(case: str, engine: str, rows: int, network: str, repeats: int) -> dict[str, Any]:
    """One case's milliseconds per decision (of all rows), its ratio to the ANN, and the process's peak memory."""
    import torch
    from train_pixels import as_actor, kind

    from snn_policy import convert
    from snn_policy.engines.torch_engine import with_arrays

    torch.set_num_threads(1)
    torch.manual_seed(0)
    from pixel_networks import PixelActor

    actor = as_actor(PixelActor(kind(network), 6).eval(), network, "cartpole-swingup")
    rng = np.random.default_rng(0)
    policy = convert(actor, pictures(48, rng), engine=engine, **CASES[case])
    twin, stream = with_arrays(actor, torch.tensor), pictures(repeats + 1, rng)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    policy.act(np.repeat(stream[:1], rows, axis=0))
    spiking, ann, operations = [], [], []
    for picture in stream[1:]:
        batch = np.repeat(picture[None], rows, axis=0)
        begin = time.perf_counter()
        policy.act(batch)
        middle = time.perf_counter()
        with torch.inference_mode():
            twin.head(twin.activations(torch.from_numpy(batch.astype(np.float32)))[1])
        spiking.append(middle - begin)
        ann.append(time.perf_counter() - middle)
        assert policy.last_decision is not None
        operations.append(policy.last_decision.synaptic_operations.mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ratio = float(np.median(np.array(spiking) / ann))
    return {"milliseconds": 1e3 * float(np.median(spiking)), "ratio": ratio, "megabytes": (peak - before) / 1024,
            "synaptic_share": float(np.mean(operations)) / actor.dense_macs}  # fmt: skip


def main(
    network: Annotated[str, typer.Option(help="drq or small")] = "drq",
    repeats: Annotated[int, typer.Option(help="decisions per case")] = 12,
    engines: Annotated[str, typer.Option(help="separated by commas")] = "torch,numpy",
    batches: Annotated[str, typer.Option(help="rows, separated by commas")] = "1,8",
) -> None:
    """Print a table of all cases."""
    print(f"| {network} | engine | rows | ms per decision | × ANN in torch | MB more | synaptic operations ÷ MACs |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        for engine in engines.split(","):
            for rows in (int(each) for each in batches.split(",")):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found = pool.submit(measure, case, engine, rows, network, repeats).result()
                print(f"| {case} | {engine} | {rows} | {found['milliseconds']:.1f} | {found['ratio']:.1f} "
                      f"| {found['megabytes']:.0f} | {found['synaptic_share']:.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
