"""D4RL's HDF5 files (Fu et al. 2020): one array per field, all episodes one after the other.

Transitions are built as D4RL's `qlearning_dataset` builds them: o' is the next row's observation, so the last row
of a timed-out episode, whose next row belongs to another episode, is left out. Where a file stores
`next_observations`, nothing needs to be left out and nothing is.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError
from snn_policy.offline.hdf5 import BoundedArrays, open_hdf5
from snn_policy.offline.replay_files import built
from snn_policy.offline.transitions import Transitions

REQUIRED, OPTIONAL = ("observations", "actions", "rewards", "terminals"), ("timeouts", "next_observations")
TASKS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "walker": "Walker2d-v5"}
"""The tasks whose v5 environments give the observations that D4RL recorded; Ant's v5 gives others."""
TIME_LIMIT = 1000
"""Of Gymnasium's MuJoCo environments, in steps: for the files of old that do not store their timeouts."""
_FILE_NAME = re.compile(r"([a-z0-9]+)[_-](random|full[_-]replay|medium[_-]replay|medium[_-]expert|medium|expert|mixed)")
Arrays = dict[str, npt.NDArray[Any]]


def read_d4rl(path: Path) -> Transitions:
    """Read one file's transitions; environment and quality from its name (`hopper_medium_replay-v2.hdf5`), if known.

    Raises:
        SourceError: missing, truncated, without one of the arrays, or with unusable values.
    """
    bounded = BoundedArrays()
    with open_hdf5(path, "D4RL dataset") as file:
        if "episode_0" in file:
            raise SourceError("an episode file of Minari's format; give the directory that holds it")
        arrays = {name: bounded.read(file, name) for name in REQUIRED}
        arrays |= {name: bounded.read(file, name) for name in OPTIONAL if name in file}
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise SourceError(f"{path}: arrays of different lengths: {rows}; the file is incomplete")
    for name in ("rewards", "terminals", "timeouts"):
        if name in arrays and arrays[name].shape[1:] == (1,):
            arrays[name] = arrays[name][:, 0]
    env_id, quality = described(path.stem)
    return built(path, **_fields(arrays), env_id=env_id, quality=quality, name=path.stem).with_cuts()


def described(stem: str) -> tuple[str | None, str | None]:
    """Return environment and quality that D4RL's file name stands for; None where it says nothing of the kind."""
    found = _FILE_NAME.match(stem.lower())
    if found is None:
        return None, None
    return TASKS.get(found[1]), found[2].replace("_", "-").replace("mixed", "medium-replay")


def _fields(arrays: Arrays) -> Arrays:
    terminals = arrays["terminals"] != 0
    timeouts = (arrays["timeouts"] != 0) & ~terminals if "timeouts" in arrays else _by_counting(terminals)
    fields = {name: arrays[name] for name in ("observations", "actions", "rewards")}
    fields |= {"terminations": terminals, "truncations": timeouts}
    if "next_observations" in arrays:
        return {**fields, "next_observations": arrays["next_observations"]}
    fields["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    timed_out = arrays.get("timeouts", timeouts) != 0
    fields["truncations"] = np.roll(timed_out, -1) & ~terminals  # the row before takes over as the episode's last
    kept = ~timed_out
    kept[-1:] = False
    return {name: array[kept] for name, array in fields.items()}


def _by_counting(terminals: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return timeouts of a file that stores none: every `TIME_LIMIT` rows since the last terminal.

    D4RL's own count runs one ahead after a terminal, so it drops the row before the last of the next full episode
    and keeps the last; here the last is dropped, whose next row is not its own.
    """
    rows = np.arange(len(terminals))
    begins = np.where(np.append(True, terminals[:-1]), rows, 0) if len(rows) else rows
    return ((rows - np.maximum.accumulate(begins)) % TIME_LIMIT == TIME_LIMIT - 1) & ~terminals
