"""The environments of a sweep: an id of Gymnasium's with options, as data that any process can make it from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium as gym

from snn_policy.environments import EnvironmentSource, make_environment
from snn_policy.protocol import Policy
from snn_policy.sweeps.tables import Table
from snn_policy.versions import installed_versions

ALWAYS, SIMULATORS = ("snn-policy", "numpy", "gymnasium"), ("mujoco", "dm-control")
WITHOUT_SIMULATOR = tuple(f"gymnasium.envs.{name}." for name in ("classic_control", "box2d", "toy_text"))


@dataclass(frozen=True)
class Place:
    """Hold an environment's id and the options that `gym.make` gets; equal ones make equal environments."""

    id: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> EnvironmentSource:
        """Return what `evaluate`, `convert` and `collect` take for an environment."""
        return self.make if self.options else self.id

    @property
    def label(self) -> str:
        return f"{self.id} {json.dumps(self.options, sort_keys=True)}" if self.options else self.id

    def make(self) -> gym.Env:
        """Return a new environment.

        Raises:
            ValueError: an id or an option that is not known.
        """
        try:
            return gym.make(self.id, **self.options)
        except (gym.error.Error, ImportError, TypeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"environment {self.label}: cannot be made: {reason}") from error

    def check(self, policy: Policy) -> None:
        """Refuse an environment that cannot be made or does not fit the policy."""
        make_environment(self.source, policy).close()

    def versions(self, compressed: bool) -> dict[str, str]:
        """Return the versions here that returns depend on: a simulator's only where it is not known to be absent."""
        spec = gym.registry.get(self.id)
        entry = getattr(spec, "entry_point", None)
        simple = isinstance(entry, str) and entry.startswith(WITHOUT_SIMULATOR)
        names = (*ALWAYS, *(() if simple else SIMULATORS), *(("torch",) if compressed else ()))
        found = _installed()
        return {name: found[name] for name in names if name in found}


@cache
def _installed() -> dict[str, str]:
    return installed_versions()


def read_place(given: Any, table: Table, key: str) -> Place:
    """Return the place that a text, or a table {id, options}, names."""
    if isinstance(given, str) and given.strip():
        return Place(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("id"), str) or given.keys() - {"id", "options"}:
        table.fail(key, 'expected ids such as "Hopper-v5", or {id = "Ant-v5", options = {…}}')
    options = given.get("options", {})
    if not isinstance(options, Mapping) or (options and given["id"].startswith("dm_control/")):
        table.fail(key, "options: expected a table of what gym.make takes; ids dm_control/… have theirs in the id")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        table.fail(key, f"options: expected texts, numbers, lists and tables ({error})")
    return Place(given["id"], dict(options))
