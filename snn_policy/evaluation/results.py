"""What an evaluation or a comparison found: plain records, with their statistics as properties."""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from snn_policy.energy import PROFILES, Profile, ann_energies, nanojoules, weights_fetched
from snn_policy.evaluation import statistics

Interval = tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """Hold episodes of one policy, in the order of their seeds, and the average cost of its decisions.

    Attributes:
        environment: its id, or its class's name where it has none.
        decisions: over all episodes; the costs below are averages per decision.
        spikes: per layer (of an ANN: non-zero activations).
        synaptic_operations, multiply_accumulates, iterations, error_spikes, events: as in `protocol.Costs`; events are
            None where they are not known.
        num_envs: side by side, of all workers together.
        microseconds: time inside `policy.act`, a worker's rows at a time, divided by those rows.
        versions: of Python and of the packages that the returns depend on, by import name.
        policy_seconds, environment_seconds: wall-clock time of all episodes inside the policy and inside the
            environments' `step` and `reset` (with what is noted after each step), summed over workers.
        render_seconds: of the environments' time, what they say they spent on drawing (`render_seconds`, as
            `snn_policy.wrappers.dm_control.Pixels` has it); None where they do not say.
        workers: processes that shared the episodes.
    """

    environment: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    num_envs: int
    decisions: int
    spikes: tuple[float, ...]
    synaptic_operations: float
    multiply_accumulates: float
    microseconds: float
    versions: dict[str, str]
    iterations: float = 0.0
    policy_seconds: float = 0.0
    environment_seconds: float = 0.0
    render_seconds: float | None = None
    workers: int = 1
    error_spikes: float = 0.0
    events: float | None = None

    @property
    def episodes(self) -> int:
        return len(self.seeds)

    @property
    def mean(self) -> float:
        return float(statistics.mean(self.returns))

    @property
    def std(self) -> float:
        """Return the standard deviation over episodes (population, as Stable-Baselines3 gives it)."""
        return float(np.std(self.returns))

    @property
    def median(self) -> float:
        return float(statistics.median(self.returns))

    @property
    def interquartile_mean(self) -> float:
        return float(statistics.interquartile_mean(self.returns))

    @cached_property
    def interval(self) -> Interval:
        """Return 95 % bootstrap interval of the interquartile mean."""
        return statistics.bootstrap_interval(statistics.interquartile_mean, self.returns)

    @property
    def spikes_per_decision(self) -> float:
        """Sum over all layers."""
        return float(sum(self.spikes))

    @property
    def energy(self) -> float:
        """Return nanojoules per decision, by the profile fp32-45nm."""
        return float(nanojoules(self.multiply_accumulates, self.synaptic_operations))

    def energy_by(self, profile: Profile) -> float | None:
        """Return nanojoules per decision by another profile; None where events matter and are not known."""
        if self.events is None and profile.per_weight:
            return None
        counts = self.multiply_accumulates, self.synaptic_operations
        return float(profile.nanojoules(*counts, weights_fetched(*counts, self.events or 0)))

    @property
    def energies(self) -> dict[str, float | None]:
        """Return nanojoules per decision by every profile of `snn_policy.energy`."""
        return {name: self.energy_by(profile) for name, profile in PROFILES.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything above as plain data; a number that is not finite becomes None."""
        derived = ("mean", "std", "median", "interquartile_mean", "interval", "spikes_per_decision", "energy",
                   "energies")  # fmt: skip
        names = (*(field.name for field in fields(self)), *derived)
        return {name: _plain(getattr(self, name)) for name in names}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)


@dataclass(frozen=True)
class Comparison:
    """Compare an ANN and its spiking conversion on the same seeds.

    Attributes:
        dense_multiply_accumulates: of one forward pass of the ANN, zeros included.
        compressed: the sparse ANN that the SNN was made from, on the same seeds, where it is another one than `ann`.
        compressed_synapses: its weights that are not zero: its multiply-accumulates where all inputs are dense.
    """

    ann: Evaluation
    snn: Evaluation
    dense_multiply_accumulates: int
    compressed: Evaluation | None = None
    compressed_synapses: int | None = None

    @property
    def retention_of_means(self) -> float:
        """Return 1 − (ANN − SNN)/|ANN| of the mean returns."""
        return float(statistics.retention(self.ann.mean, self.snn.mean))

    @property
    def retention_of_medians(self) -> float:
        return float(statistics.retention(self.ann.median, self.snn.median))

    @cached_property
    def retention_of_means_interval(self) -> Interval:
        """Return 95 % bootstrap interval over episodes, paired by seed."""
        return statistics.retention_interval(statistics.mean, self.ann.returns, self.snn.returns)

    @cached_property
    def retention_of_medians_interval(self) -> Interval:
        return statistics.retention_interval(statistics.median, self.ann.returns, self.snn.returns)

    @property
    def ann_failed(self) -> float:
        """Return the share of the ANN's episodes below its own median by more than 20 % of that median's size."""
        return statistics.failed_share(self.ann.returns, self.ann.returns)

    @property
    def snn_failed(self) -> float:
        """Return the share of the SNN's episodes below the ANN's median by more than 20 % of that median's size."""
        return statistics.failed_share(self.snn.returns, self.ann.returns)

    @property
    def dense_energy(self) -> float:
        """Return nanojoules per decision of the ANN, zeros included."""
        return float(nanojoules(self.dense_multiply_accumulates, 0))

    @property
    def energy_share(self) -> float:
        """Return the SNN's energy as a share of the dense ANN's."""
        return self.snn.energy / self.dense_energy

    @property
    def zero_skipping_share(self) -> float:
        """Return the energy of the ANN that skips zeros, on its own episodes, as a share of the dense ANN's."""
        return self.ann.energy / self.dense_energy

    def energies_by(self, profile: Profile) -> dict[str, float | None]:
        """Return nanojoules per decision of the SNN and of every opponent: `snn`, `ann_dense`, `ann_skipping`, both
        again with 8-bit weights and activations (`_8bit`), and, where there is a compressed ANN, `compressed_…`
        likewise."""
        found: dict[str, float | None] = {"snn": self.snn.energy_by(profile)}
        found |= ann_energies(profile, self.dense_multiply_accumulates, self.ann.multiply_accumulates)
        if self.compressed is not None and self.compressed_synapses is not None:
            sparse = ann_energies(profile, self.compressed_synapses, self.compressed.multiply_accumulates)
            found |= {name.replace("ann_", "compressed_"): value for name, value in sparse.items()}
        return found

    @property
    def energies(self) -> dict[str, dict[str, float | None]]:
        """Return `energies_by` every profile of `snn_policy.energy`."""
        return {name: self.energies_by(profile) for name, profile in PROFILES.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything above as plain data; a number that is not finite becomes None."""
        names = [name for name, value in vars(Comparison).items() if isinstance(value, (property, cached_property))]
        return {
            "ann": self.ann.as_dict(),
            "snn": self.snn.as_dict(),
            "dense_multiply_accumulates": self.dense_multiply_accumulates,
            "compressed": self.compressed and self.compressed.as_dict(),
            "compressed_synapses": self.compressed_synapses,
            **{name: _plain(getattr(self, name)) for name in names},
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return statistics.finite(value) if isinstance(value, float) else value
