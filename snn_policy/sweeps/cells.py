"""The cells of a sweep: what one is, its name by the hash of what it is, and the grid that a plan stands for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from snn_policy.sweeps import cell_record
from snn_policy.sweeps.digests import hash_of
from snn_policy.sweeps.places import Place
from snn_policy.sweeps.settings import Setting

ANN = "ANN"
KEY_LENGTH = 32
Purpose = Literal["report", "select"]


@dataclass(frozen=True, eq=False)
class PlannedActor:
    """Hold an actor of a sweep.

    Attributes:
        content: `contents.actor_bytes`; digest: their SHA-256.
        places: the environments that it is to act in.
        settings: those of the sweep that it is converted with, with the name of the engine that decides.
    """

    name: str
    content: bytes
    digest: str
    dense_macs: int
    places: tuple[Place, ...]
    settings: tuple[tuple[Setting, str], ...]


@dataclass(frozen=True)
class Protocol:
    """Hold what all cells of a sweep share: episodes per batch, and the recording that conversions learn from."""

    batch: int
    recording_steps: int
    recording_seed: int

    @property
    def recording(self) -> dict[str, int]:
        return {"steps": self.recording_steps, "seed": self.recording_seed}


@dataclass(frozen=True)
class Seeds:
    """Hold a range of episodes: the first one's seed, and how many."""

    first: int
    count: int

    def meets(self, other: "Seeds") -> bool:
        """Return whether the two have a seed in common."""
        return self.first < other.first + other.count and other.first < self.first + self.count

    def __str__(self) -> str:
        return f"{self.first}…{self.first + self.count - 1}"


@dataclass(frozen=True, eq=False)
class Cell:
    """Hold one cell: an actor as the ANN that it is, or converted, in one environment, over one range of seeds."""

    actor: PlannedActor
    setting: Setting | None
    engine: str | None
    place: Place
    seeds: Seeds
    purpose: Purpose
    protocol: Protocol

    @property
    def label(self) -> str:
        return ANN if self.setting is None else self.setting.label

    @property
    def title(self) -> str:
        """Return the cell in a few words, for messages."""
        return f"{self.actor.name} in {self.place.label}, {self.label}, seeds {self.seeds}"

    @property
    def baseline(self) -> "Cell":
        """Return the ANN's cell on the same seeds."""
        return Cell(self.actor, None, None, self.place, self.seeds, self.purpose, self.protocol)

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what the cell is as plain data: what its key is the hash of."""
        setting, place = self.setting, self.place
        return {
            "actor": {"name": self.actor.name, "digest": self.actor.digest},
            "role": cell_record.ANN if setting is None else cell_record.SNN,
            "label": self.label,
            "settings": setting and setting.record,
            "compression": setting and setting.compression_record,
            "recording": setting and self.protocol.recording,
            "engine": self.engine,
            "baseline": setting and self.baseline.key,
            "environment": place.id,
            "environment_options": dict(place.options),
            "seed": self.seeds.first,
            "episodes": self.seeds.count,
            "batch": self.protocol.batch,
            "purpose": self.purpose,
            "versions": place.versions(setting is not None and setting.compression is not None),
            "dense_multiply_accumulates": self.actor.dense_macs,
        }

    @cached_property
    def key(self) -> str:
        return hash_of(self.record)[:KEY_LENGTH]

    @cached_property
    def policy_key(self) -> str | None:
        """Return the name of the converted policy, which cells on other seeds share; None of an ANN."""
        if self.setting is None:
            return None
        record = self.record
        names = ("settings", "compression", "recording", "engine", "environment", "environment_options", "versions")
        made_of = {"actor": self.actor.digest, "name": self.actor.name, **{name: record[name] for name in names}}
        return hash_of(made_of)[:KEY_LENGTH]

    def batches(self) -> Iterator[Seeds]:
        """Yield the ranges of seeds that are run, and kept, together."""
        end = self.seeds.first + self.seeds.count
        for first in range(self.seeds.first, end, self.protocol.batch):
            yield Seeds(first, min(self.protocol.batch, end - first))
