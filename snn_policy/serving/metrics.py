"""What the server counts, as Prometheus text.

`prometheus_client` was tried: its summaries have no quantiles, it writes whole numbers as floats, and every name, help
and sample below stays; it saves eight lines for a dependency that loads an HTTP server.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Costs, Decision

QUANTILES = (0.5, 0.9, 0.99, 0.999)
COSTS = {
    "spikes": "Spikes emitted.",
    "synaptic_operations": "Accumulations caused by spikes.",
    "multiply_accumulates": "Multiplications left.",
    "events": "Weights fetched: the fan-out of every neuron that spiked in a decision.",
}
RECENT = 16384
"""Latencies that the quantiles are taken over."""


class Metrics:
    """Hold sums since the start, and the most recent latencies."""

    def __init__(self) -> None:
        self.started = time.time()
        self.decisions = self.batches = self.resets = self.connections = self.snapshots = 0
        self.costs: Costs | None = None
        self.refused: Counter[str] = Counter()
        self.latency_sum = self.policy_seconds = 0.0
        self._latencies = np.zeros(RECENT)
        self._place = 0

    def count_batch(self, decision: Decision, latencies: npt.NDArray[np.float64], seconds: float) -> None:
        """Count one call of the policy.

        Args:
            decision: what its rows cost.
            latencies: (rows,) seconds from a message's receipt to its answer.
            seconds: the call itself.
        """
        self.decisions += len(latencies)
        self.batches += 1
        spent = decision.total()
        self.costs = spent if self.costs is None else self.costs + spent
        self.policy_seconds += seconds
        self.latency_sum += float(latencies.sum())
        self._latencies[(self._place + np.arange(len(latencies))) % RECENT] = latencies
        self._place += len(latencies)

    @property
    def synaptic_operations(self) -> int:
        """Sum over all decisions so far."""
        return self._spent()["synaptic_operations"]

    def _spent(self) -> dict[str, int]:
        """Sum over all rows and layers, by name."""
        known = (Costs.zeros().total() if self.costs is None else self.costs).named()
        return {name: int(np.sum(values)) for name, values in known.items()}

    def quantile(self, q: float) -> float:
        """Return a quantile of the recent latencies in seconds; NaN before the first."""
        recent = self._latencies[: min(self._place, RECENT)]
        return float(np.quantile(recent, q)) if len(recent) else float("nan")

    def text(self, gauges: dict[str, tuple[str, float]]) -> str:
        """Write Prometheus' text format; `gauges` adds (help, value) by name."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: dict[str, tuple[str, float]]) -> Iterator[str]:
        for name, what, value in (
            ("decisions_total", "Decisions made.", self.decisions),
            ("batches_total", "Calls of the policy.", self.batches),
            ("policy_seconds_total", "Time spent in calls of the policy.", self.policy_seconds),
            ("resets_total", "Memories started from zero at a client's wish.", self.resets),
            ("connections_total", "Connections accepted.", self.connections),
            *((f"{name}_total", COSTS[name], value) for name, value in self._spent().items() if name in COSTS),
            ("snapshots_total", "Writings of the state file.", self.snapshots),
        ):
            yield from _described(name, "counter", what)
            yield f"snn_policy_{name} {value}"
        yield from _described("refused_total", "counter", "Requests and connections refused, by reason.")
        for reason, count in sorted(self.refused.items()):
            yield f'snn_policy_refused_total{{reason="{reason}"}} {count}'
        yield from _described("latency_seconds", "summary", f"Receipt to answer; quantiles over the last {RECENT}.")
        for q in QUANTILES:
            yield f'snn_policy_latency_seconds{{quantile="{q}"}} {self.quantile(q):.9g}'
        yield f"snn_policy_latency_seconds_sum {self.latency_sum:.9g}"
        yield f"snn_policy_latency_seconds_count {self.decisions}"
        for name, (what, value) in {**gauges, **self._process()}.items():
            yield from _described(name, "gauge", what)
            yield f"snn_policy_{name} {value}"
        yield from _described("cpu_seconds_total", "counter", "Processor time of the server.")
        yield f"snn_policy_cpu_seconds_total {time.process_time()}"

    def _process(self) -> dict[str, tuple[str, float]]:
        return {
            "start_time_seconds": ("Unix time of the start.", self.started),
            "peak_memory_bytes": ("Largest resident memory so far.", _peak_memory()),
        }


def _peak_memory() -> int:
    """Return bytes, by Linux' own count where there is one: `getrusage` counts what the parent held before, too."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _described(name: str, kind: str, what: str) -> tuple[str, str]:
    return f"# HELP snn_policy_{name} {what}", f"# TYPE snn_policy_{name} {kind}"
