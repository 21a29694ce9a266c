"""Time a sparse layer as dense rows and as blocks in the compiled core: what `engines/core/blocks.py` decides by.

    python -m benchmarks.sparse_weights                  # a quarter of an hour
    python -m benchmarks.sparse_weights --widths 256     # replaces that width's rows

in benchmarks/results/sparse_weights.json.

A network with two hidden layers of equal width, random weights, of which the second layer's are pruned in blocks; the
same observations for all. Times are of whole decisions, processor time in microseconds per row, the best of interleaved
rounds, as shares of *grouped*, the dense kernel of layers without zeros: *in order*, dense rows one spike after the
other; *blocks*.
"""

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.places import RESULTS
from snn_policy import Actor, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.atomic_files import write_atomically
from snn_policy.engines.core.blocks import Packed, pack
from snn_policy.engines.core.engine import REDERIVE_AFTER, EventEngine, EventSession, checked
from snn_policy.engines.core.layout import Layout, Writer
from snn_policy.spiking.network import SpikingNetwork

MEASURED = RESULTS / "sparse_weights.json"
WIDTHS, BLOCKS, DENSITIES, ROWS = (64, 256, 512, 1024), (1, 4, 8, 16, 32), (0.1, 0.2, 0.3, 0.5), (1, 256)
INPUTS, ROUNDS = 17, 7


class BlocksWriter(Writer):
    """Stores every sparse layer as blocks."""

    def packs(self, packed: Packed) -> bool:
        return True


class RowsWriter(Writer):
    """Stores none as blocks."""

    def packs(self, packed: Packed) -> bool:
        return False


def kept(width: int, block: int, density: float, rng: np.random.Generator) -> Any:
    """(width, width) booleans: which weights are not pruned."""
    return np.repeat(rng.random((-(-width // block), width)) < density, block, axis=0)[:width]


def taken(width: int, block: int, density: float) -> str:
    """What the core keeps such a layer as."""
    mask = kept(width, block, density, np.random.default_rng(width + block))
    return "blocks" if pack(mask.astype(np.float32)).pays else "rows"


def network(width: int, block: int, density: float) -> SpikingNetwork:
    """A converted network whose second hidden layer is pruned."""
    rng = np.random.default_rng(width + block)

    def layer(outputs: int, inputs: int, present: Any = 1.0, activation: Any = RELU) -> Linear:
        weight = rng.normal(size=(outputs, inputs)) * np.sqrt(2 / inputs / np.mean(present)) * present
        return Linear(weight.astype(np.float32), np.zeros(outputs, np.float32), activation)

    mask = kept(width, block, density, rng)
    layers = (layer(width, INPUTS), layer(width, width, mask), layer(6, width, activation=None))
    actor = Actor(layers, Head.clip(-np.ones(6), np.ones(6)), (INPUTS,))
    return convert(actor, observations(2_000), engine="numpy").network


def observations(steps: int) -> Any:
    """(steps, inputs) float32: a first-order autoregressive walk of unit variance."""
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(steps, INPUTS))
    for step in range(1, steps):
        walk[step] = 0.95 * walk[step - 1] + 0.31 * walk[step]
    return walk.astype(np.float32)


def session(network: SpikingNetwork, blocks: Layout, rows: int) -> EventSession:
    """A session that runs these blocks."""
    engine = EventEngine(network)
    engine.layout, engine.program = blocks, checked(engine.core, blocks)
    return engine.session(rows)


def grouped(blocks: Layout) -> Layout:
    """Dense rows as those of layers without zeros."""
    blocks.connections["in_order"] = 0
    return blocks


def timed(network: SpikingNetwork, rows: int) -> list[float]:
    """Microseconds per row and decision: grouped, in order, blocks."""
    made = (grouped(RowsWriter(network, REDERIVE_AFTER).layout()), RowsWriter(network, REDERIVE_AFTER).layout(),
            BlocksWriter(network, REDERIVE_AFTER).layout())  # fmt: skip
    sessions = [session(network, blocks, rows) for blocks in made]
    steps = 1_000 if rows == 1 else 12
    stream = observations(steps + rows)
    best = [float("inf")] * len(sessions)
    for _ in range(ROUNDS):
        for index, timing in enumerate(sessions):
            begin = time.thread_time()
            for step in range(steps):
                timing.obs[...] = stream[step : step + rows]
                timing.run()
            best[index] = min(best[index], 1e6 * (time.thread_time() - begin) / steps / rows)
    return best


def main() -> None:
    """Measure all combinations, print them, and write them, width by width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--blocks", type=int, nargs="*", default=BLOCKS)
    given = parser.parse_args()
    print("width block density rows | grouped µs | in order | blocks | the core takes", flush=True)
    for width in given.widths:
        found = []
        for block in given.blocks:
            for density in DENSITIES:
                made = network(width, block, density)
                for rows in ROWS:
                    times = timed(made, rows)
                    ratios = [value / times[0] for value in times[1:]]
                    way = taken(width, block, density)
                    found.append({"width": width, "block": block, "density": density, "rows": rows,
                                  "grouped_microseconds": times[0], "in_order": ratios[0], "blocks": ratios[1],
                                  "taken": way})  # fmt: skip
                    print(f"{width:5} {block:5} {density:7} {rows:4} | {times[0]:10.2f} | {ratios[0]:8.2f} | "
                          f"{ratios[1]:6.2f} | {way}", flush=True)  # fmt: skip
        keep(width, found)


def keep(width: int, found: list[dict[str, Any]]) -> None:
    """Replace a width's rows in the file."""
    before = json.loads(MEASURED.read_text())["rows"] if MEASURED.exists() else []
    rows = sorted([row for row in before if row["width"] != width] + found, key=lambda row: row["width"])
    write_atomically(MEASURED, (json.dumps({"rows": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
