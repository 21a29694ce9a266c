"""What a checkpoint holds beside the network that was found in it: other networks and counters, or parts of the policy.

A chain of layers is found by names and shapes (`weight_names`); an encoder, a normalisation or a scale beside it would
be lost without a word. So arrays that nothing was read from are refused, but for those whose names say that they are
something else.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.weight_names import OTHERS, Network, Weights, shape_of

_OTHERS_TOO = re.compile(
    r"privileged|return|(^|[._])(ret_rms|amp|disc|rnd|ema|scaler|rng|log_?var|var_head|covariance|dones?|action_space|"
    r"log_alpha|log_ent_coef|ent_coef|entropy|temperature|lagrang\w*|lambda_param|exp_avg\w*)([._]|$)|random_state|rng_state"
)
_COUNTERS = re.compile(
    r"(^|[._])(num_batches_tracked|n_?steps?|num_\w+|counts?|steps?|iter(ations?)?|epochs?|frames?|version|seed|until|eps|"
    r"epsilon|n|t|total_\w+|global_\w+|summed_variance|momentum)$|^alpha$"
)
_OF_POLICIES = re.compile(r"mean|std|var|scale|norm|low|high|max|min|shift|offset|clip|weight|bias|kernel")
"""In the names of arrays that matter although they lie beside the dictionary that has the network."""
_BOUNDS = re.compile(r"(^|[._])(\w*_)?(low|high|bounds?|max_action|min_action)$")
_STATISTICS = re.compile(r"(^|[._])\w*(mean|std|var|variance|count|eps|epsilon|std_dev)$")
SHOWN = 4


def refuse_left_over(
    root: Any, weights: Weights, used: Iterable[str], network: Network, prefix: str | None, *,
    normalised: bool, bounded: bool,
) -> None:  # fmt: skip
    """Refuse arrays that were not used and may be the policy's.

    Args:
        root: the checkpoint; `weights`: all its arrays; `used`: the names of those that the actor was made of.
        prefix: as the user gave it: what lies elsewhere is none of the policy's then.
        normalised: the user gave the observation statistics, so that those stored are not missed; `bounded`: the
            actions' bounds.

    Raises:
        UnsupportedLayerError: it names them.
    """
    taken = set(used)
    own = None if prefix is None else prefix.rstrip(".")
    first = network.layers[0].partition(".")[0]
    home = f"{first}." if isinstance(root, Mapping) and isinstance(root.get(first), Mapping) else ""
    missed = [
        name
        for name, value in weights.items()
        if name not in taken
        and (own is None or name.startswith(own))
        and (name.startswith(home) or _OF_POLICIES.search(name.lower().rpartition(".")[2]))
        and not _is_something_else(name, shape_of(value))
        and not (normalised and _STATISTICS.search(name.lower()))
        and not (bounded and _BOUNDS.search(name.lower()))
    ]
    if not missed:
        return
    more = f" and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
    listed = ", ".join(f"{name} {shape_of(weights[name])}" for name in missed[:SHOWN]) + more
    raise UnsupportedLayerError(
        "checkpoint", f"beside the network {network}",
        f"nothing was read from {listed}, which may be a part of the policy",
        "Build the network, call its load_state_dict, and pass the module" + _other_way(network, prefix),
    )  # fmt: skip


def _other_way(network: Network, prefix: str | None) -> str:
    if prefix is not None:
        return ""
    return f"; or, if the policy is that network alone, pass prefix={network.prefix!r}"


def _is_something_else(name: str, shape: tuple[int, ...]) -> bool:
    lower = name.lower()
    counter = _COUNTERS.search(lower) is not None and int(np.prod(shape)) <= 1
    return counter or OTHERS.search(lower) is not None or _OTHERS_TOO.search(lower) is not None
