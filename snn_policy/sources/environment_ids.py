"""Ids of environments that no longer exist, to those that took their place with the same observations."""

import re
from typing import Any

import gymnasium

_SAME_OBSERVATIONS_IN_V5 = re.compile(r"(HalfCheetah|Hopper|Walker2d|Swimmer|InvertedPendulum|Pusher)-v[234]")


def current_id(env_id: Any) -> str | None:
    """Return the id under which Gymnasium makes this environment today; None where it cannot.

    MuJoCo's v2 to v4 become v5 only where an actor of the old sees the same observations in the new.
    """
    if not isinstance(env_id, str):
        return None
    if match := _SAME_OBSERVATIONS_IN_V5.fullmatch(env_id):
        return f"{match[1]}-v5"
    return env_id if env_id in gymnasium.registry else None


def environment_of(algorithm: Any) -> str | None:
    """Return the id of the environment a live algorithm holds, where it has one that says so."""
    environment = algorithm.get_env() if hasattr(algorithm, "get_env") else None
    try:
        return None if environment is None else current_id(environment.get_attr("spec", 0)[0].id)
    except Exception:
        return None
