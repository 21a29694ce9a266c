"""When a vector environment resets its rows: what it declares, and whether what it does agrees with that.

In SAME_STEP mode the observation of an episode's last step is already the next episode's, and the last one comes in
`infos["final_obs"]`; in the other modes there is none. See https://farama.org/Vector-Autoreset-Mode.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from snn_policy.errors import warn
from snn_policy.observations import environment_name, numbers_of
from snn_policy.protocol import Mask

FINAL = ("final_obs", "final_observation")
"""Names of an episode's last observation, Gymnasium's since 1.0 and before."""
_DECLARE = 'env.metadata = {**(env.metadata or {}), "autoreset_mode": gymnasium.vector.AutoresetMode.%s}'


def declared_mode(env: VectorEnv) -> AutoresetMode:
    """Return what the outermost layer declares that declares anything; NEXT_STEP, with a warning, where none does.

    Enumeration members and texts are understood: AutoresetMode.SAME_STEP, "SameStep", "same_step".

    Raises:
        ValueError: a mode that does not exist.
    """
    layer: Any = env
    while layer is not None:
        metadata = getattr(layer, "metadata", None)
        value = metadata.get("autoreset_mode") if isinstance(metadata, Mapping) else None
        if value is not None:
            return _mode(value, env)
        layer = getattr(layer, "env", None)
    warn(
        f'environment {environment_name(env)} does not declare metadata["autoreset_mode"]; taken for NEXT_STEP, '
        "Gymnasium's default: membranes are cleared one step after an episode's end. If its rows are reset in the same "
        f"step, membranes would live on into other episodes: declare it with {_DECLARE % 'SAME_STEP'}",
    )
    return AutoresetMode.NEXT_STEP


def check_final_observations(env: VectorEnv, mode: AutoresetMode, infos: Any, over: Mask) -> None:
    """Compare what a step's infos tell of last observations with the mode; `over` (rows,): episodes that ended.

    Raises:
        ValueError: a last observation where the mode has none, or none where it has one.
    """
    given = final_rows(infos, over)
    if mode != AutoresetMode.SAME_STEP and given.any():
        raise ValueError(
            f"{_rows(env, given)}: infos hold their last observations (final_obs), as in SAME_STEP mode, but the mode "
            f"is {mode.name}. Either the environment resets in the same step: then {_DECLARE % 'SAME_STEP'} before "
            "wrapping it; or it does not: then its infos must not hold final_obs"
        )
    missing = over & ~given
    if mode == AutoresetMode.SAME_STEP and missing.any():
        raise ValueError(
            f"{_rows(env, missing)}: their episodes are over, and infos lack their last observations (final_obs), but "
            "the mode is SAME_STEP. Either the environment resets in the next step: then "
            f"{_DECLARE % 'NEXT_STEP'} before wrapping it; or in the same step: then its infos must hold final_obs"
        )


def _rows(env: VectorEnv, rows: Mask) -> str:
    return f"environment {environment_name(env)}, rows {np.flatnonzero(rows).tolist()}"


def final_rows(infos: Any, over: Mask) -> Mask:
    """Return (rows,) where the infos hold a last observation; without a mask beside it, that of the rows in `over`."""
    if isinstance(infos, Sequence):
        return np.array([any(_there(info, name) for name in FINAL) for info in infos], np.bool_)
    found = np.zeros(len(over), np.bool_)
    for name in FINAL:
        if _there(infos, name):
            found |= _row_mask(infos, name, over)
    return found


def _there(infos: Any, name: str) -> bool:
    return isinstance(infos, Mapping) and infos.get(name) is not None


def _row_mask(infos: Mapping[str, Any], name: str, over: Mask) -> Mask:
    beside = infos.get(f"_{name}")
    if beside is not None:
        return numbers_of(beside, over.shape, f'infos["_{name}"]').astype(np.bool_)
    value = infos[name]
    if isinstance(value, np.ndarray | Sequence) and len(value) == len(over):  # None where there is nothing to tell
        return over & np.array([observation is not None for observation in value], np.bool_)
    return over


def _mode(value: Any, env: VectorEnv) -> AutoresetMode:
    wanted = {_plain(value)} if not isinstance(value, Enum) else {_plain(value.name), _plain(value.value)}
    for mode in AutoresetMode:
        if wanted & {_plain(mode.name), _plain(mode.value)}:
            return mode
    raise ValueError(
        f'environment {environment_name(env)}: metadata["autoreset_mode"] is {value!r}; '
        f"expected {', '.join(f'AutoresetMode.{mode.name}' for mode in AutoresetMode)}"
    )


def _plain(word: Any) -> str:
    return str(word).rpartition(".")[2].replace("_", "").replace("-", "").lower()
