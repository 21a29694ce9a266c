"""Name what is measured beside the peers, and reduce it to statistics; neither their libraries nor torch are needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from snn_policy.evaluation import statistics

ACTORS = ("tqc-HalfCheetah-v3", "ppo-Hopper-v3", "sac-Walker2d-v3", "td3-Hopper-v5")
TANH_ACTOR = "trpo-Swimmer-v3"
TIMESTEPS = (4, 8, 16, 32)
GAIN = 4.0
"""Of sinabs' advice "scale the first layer by a factor of 2-10"."""
RECIPE_NAMES = ("max", "99.9%", "99.9% per channel", "threshold balancing")
ANN, SIGMA_DELTA, CRPI, LOOP = "ANN", "sigma-delta", "IF, CRPI", "eager IF loop"
SPIKINGJELLY = tuple(f"SpikingJelly, {name}" for name in RECIPE_NAMES)
PER_CHANNEL, BALANCING = SPIKINGJELLY[2:]
DEFAULT, SCALED = "sinabs, default", f"sinabs, normalised × {GAIN:g}"
PEERS = (*SPIKINGJELLY, DEFAULT, SCALED, LOOP)
CARRIED, CARRIED_TIMESTEPS = (PER_CHANNEL, SCALED), (4, 16)
"""Peers that are also run without a reset between the decisions of an episode, and at which T."""
ORDER, LAST = (1, 16, 4, 32, 8), (BALANCING, DEFAULT)
TIMED_PEERS, ANN_IN_TORCH = (CRPI, PER_CHANNEL, SCALED, LOOP), "ANN, torch"
ROWS, ROWS_TIMESTEPS = 256, 16
FAITHFUL = 0.02
"""The largest mean error, in standard deviations of the output, that counts as faithful."""
GAP_AT = (0, 1, 5, 20)
"""Decisions of an episode at which a forgotten reset is looked for."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Name one network: whose it is, its T, and whether membranes are left as they are between decisions."""

    peer: str
    timesteps: int = 1
    carries: bool = False

    @property
    def key(self) -> dict[str, Any]:
        return asdict(self)


def cells(name: str, timesteps: Sequence[int] = TIMESTEPS) -> list[Cell]:
    """Return all cells of an actor; of one whose activations no peer makes spike, the ANN's and sigma-delta's."""
    found = [Cell(ANN), Cell(SIGMA_DELTA)]
    if name != TANH_ACTOR:
        found += [Cell(peer, steps) for steps in timesteps for peer in (CRPI, *PEERS)]
        found += [Cell(peer, steps, True) for steps in CARRIED_TIMESTEPS if steps in timesteps for peer in CARRIED]
    return found


def in_order(names: Sequence[str], timesteps: Sequence[int] = TIMESTEPS) -> list[tuple[str, Cell]]:
    """Return the cells of all actors, so that a run that is stopped has the same ones of all of them: T = 16 first."""
    every = [(name, cell) for name in names for cell in cells(name, timesteps)]
    return sorted(every, key=lambda pair: (pair[1].carries or pair[1].peer in LAST, ORDER.index(pair[1].timesteps)))


def missing(names: Sequence[str], timesteps: Sequence[int], known: Sequence[Row]) -> list[tuple[str, Cell]]:
    """Return the cells, in order, that have no row yet."""
    done = {(row["actor"], Cell(row["peer"], row["timesteps"], row["carries"])) for row in known}
    return [pair for pair in in_order(names, timesteps) if pair not in done]


def usable(known: Sequence[Row], effort: Mapping[str, Any]) -> list[Row]:
    """Return the rows that were measured with as many episodes, steps and recorded observations."""
    wanted = {name: effort[name] for name in ("episodes", "steps", "recorded")}
    return [row for row in known if row.items() >= wanted.items()]


def found_at(rows: Sequence[Row], peer: str, timesteps: int = 1, carries: bool = False) -> Iterator[Row]:
    """Yield the row of this cell, if there is one."""
    yield from (row for row in rows if (row["peer"], row["timesteps"], row["carries"]) == (peer, timesteps, carries))


def kept(row: Row, ann: Row) -> dict[str, Any]:
    """Return the retention of the mean return and its 95 % interval paired by seed, failures, and synaptic operations.

    `failed` is the share of `statistics.failures`; `operations` is by the ANN's dense multiply-accumulates.
    """
    pair = ann["returns"], row["returns"]
    means = (statistics.mean(values) for values in pair)
    return {
        "retention": float(statistics.retention(*means)),
        "interval": statistics.retention_interval(statistics.mean, *pair),
        "failed": statistics.failed_share(row["returns"], ann["returns"]),
        "operations": row["synaptic_operations"] / row["dense_macs"],
    }
