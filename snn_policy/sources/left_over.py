"""What a checkpoint holds beside the network that was found in it: other networks and counters, or parts of the policy.

A chain of layers is found by names and shapes (`weight_names`); an encoder, a normalisation or a scale beside it would
be lost without a word. So arrays that nothing was read from are refused, but for those whose names say that they are
something else.
"""

import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError, warn
from snn_policy.sources.weight_names import (
    OTHERS,
    Network,
    Weights,
    folders_of_layers,
    layer_shape,
    lies_in_another,
    weight_name,
    words_beyond,
)
from snn_policy.sources.weight_values import is_array, shape_of

_OTHERS_TOO = re.compile(
    r"(^|[._])(amp|disc|rnd|ema|old|rng|np_random|log_?var|var_head|covariance|dones?|action_space|log_alpha|log_ent_coef|"
    r"ent_coef|entropy|temperature|lagrang\w*|lambda_param|exp_avg\w*|loss|(ret|rew|cost)_(rms|norm|mean|var)\w*)([._]|$)|"
    r"privileged_(obs_)?(norm|rms)|(^|[._])privileged_obs|returns?_(rms|norm|mean|var)|random_state|rng_state|"
    r"(^|\.)(grad_)?scaler\.(scale|_?growth_\w+|backoff_factor)$|(^|[._])(\w+_)?opt\.|^env(_state)?\.|curriculum"
)
_COUNTERS = re.compile(
    r"(^|[._])(num_batches_tracked|n_?steps?|num_\w+|counts?|steps?|it|iter(ations?)?|updates?|epochs?|frames?|version|seed|"
    r"until|eps|epsilon|n|t|n_averaged|lr|learning_rate|clip_range|kl_coef|\w*loss|max_level|mean_episode_length|momentum|"
    r"(total|global)_(env_)?(n?um_)?(step|timestep|it|iter|epoch|episode|frame|update|sample)\w*|summed_variance)$|^alpha$"
)
_OF_POLICIES = re.compile(
    r"mean|std|var|scale|norm|low|high|max|min|shift|offset|clip|weight|bias|kernel|range|gain|"
    r"(^|_)(mu|loc|avg|sd|cent(er|re))$"
)
"""In the names of arrays that matter although they lie beside the dictionary that has the network."""
_TARGETS = re.compile(r"(?<![A-Za-z])targ(et)?s?[._]"), re.compile(r"[._]targ(et)?s?(?=[._]|$)")
"""What is a copy's name, if the name without it is another array's: a target_encoder may see the goal."""
_BOUNDS = re.compile(r"(^|[._])(\w*_)?(low|high|bounds?|max_action|min_action)$")
_STATISTICS = re.compile(r"(^|[._])\w*(mean|std|var|variance|count|eps|epsilon|std_dev|_clip)$")
_BARE_STATISTICS = re.compile(
    r"obs\w*_?(rms|norm\w*|mean|std|var\w*|stats?)|(obs\w*_)?normali[sz]er|state_(mean|std|var)"
)
_BARE_SCALES = re.compile(r"action_(scale|bias|low|high|range)|max_action|(low|high|min|max)_action")
SHOWN = 4


def refuse_left_over(
    root: Any, weights: Weights, used: Set[str], network: Network, prefix: str | None, *,
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
    own = None if prefix is None else prefix.rstrip(".")
    first = network.layers[0].partition(".")[0]
    home = f"{first}." if isinstance(root, Mapping) and isinstance(root.get(first), Mapping) else ""
    folders = folders_of_layers(weights)
    missed = [
        name
        for name, value in weights.items()
        if name not in used
        and name.rpartition(".")[0] not in network.others
        and (own is None or _under(name, own, network, folders))
        and (name.startswith(home) or _OF_POLICIES.search(name.lower().rpartition(".")[2]))
        and not _is_something_else(name, shape_of(value), network, weights)
        and not (normalised and _STATISTICS.search(name.lower()))
        and not (bounded and _BOUNDS.search(name.lower()))
    ]
    if not missed:
        _tell_of_head(weights, used, network, prefix)
        return
    more = f" and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
    listed = ", ".join(f"{name} {shape_of(weights[name])}" for name in missed[:SHOWN]) + more
    other_way = _other_way(weights, missed, network, prefix)
    raise UnsupportedLayerError(
        "checkpoint", f"beside the network {network}",
        f"nothing was read from {listed}, which may be a part of the policy",
        "Build the network, call its load_state_dict, and pass the module" + other_way,
    )  # fmt: skip


def warn_of_bare_values(root: Any, *, normalised: bool, bounded: bool) -> None:
    """Tell of numbers and objects beside the weights that by their names a policy may apply: they are not read.

    Args:
        normalised, bounded: the user gave the observation statistics, or the actions' bounds.
    """
    for key, value in root.items() if isinstance(root, Mapping) else ():
        name = str(key)[:100].lower()
        statistics = not normalised and _BARE_STATISTICS.fullmatch(name) is not None
        scales = not bounded and _BARE_SCALES.fullmatch(name) is not None
        if not (statistics or scales) or value is None or isinstance(value, str | bool | Mapping) or is_array(value):
            continue
        remedy = "give it as normaliser=" if statistics else "give low= and high=, or pass the module"
        what = f"the checkpoint's {name} ({type(value).__name__}) is not applied"
        warn(f"{what}; if the policy is to be used with it, {remedy}")


def _under(name: str, prefix: str, network: Network, folders: set[str]) -> bool:
    """Return whether a name lies under a prefix, which is whole words, or is called after it and is no other network's.

    `actor_mean` may be a part of `actor`, as `fc_scale` of `fc1` and `fc2`; `actor_old.0.weight` is none.
    """
    if not name.startswith(prefix) or name.startswith(f"{prefix}.") or not prefix:
        return name.startswith(prefix)
    return not lies_in_another(name, network.layers[0], folders)


def _other_way(weights: Weights, missed: list[str], network: Network, prefix: str | None) -> str:
    """Return the prefix that leaves out what was missed; none where that is a layer before the network, or its head."""
    if prefix is not None or not network.prefix or _adjoining(weights, missed, network):
        return ""
    return f"; or, if the policy is that network alone, pass prefix={network.prefix!r}"


def _tell_of_head(weights: Weights, used: Set[str], network: Network, prefix: str | None) -> None:
    """Tell of a layer that takes what the network gives, where the user's prefix leaves it out."""
    if prefix is None:
        return
    given = network.sizes[-1]
    beside = _adjoining(weights, [name for name in weights if name not in used], network)
    names = {layer: weight_name(weights, layer) for layer in beside if layer_shape(weights, layer)[1] == given}
    heads = [layer for layer, name in names.items()
             if not _is_something_else(name, shape_of(weights[name]), network, weights)]  # fmt: skip
    if heads:
        what = f"prefix={prefix!r} leaves out {heads[0]}, which takes the {given} values that {network} gives"
        warn(f"{what}; if it is the policy's head, build the network, call its load_state_dict, and pass the module")


def _adjoining(weights: Weights, names: list[str], network: Network) -> list[str]:
    """Return the layers among these arrays that take what a layer of the network gives, or give what one takes."""
    layers = [name.rpartition(".")[0] for name in names if name.rpartition(".")[2] in ("weight", "kernel")]
    matrices = [layer for layer in layers if len(shape_of(weights[weight_name(weights, layer)])) == 2]
    sizes = {layer: layer_shape(weights, layer) for layer in matrices}
    return [layer for layer, (outputs, inputs) in sizes.items()
            if inputs in network.sizes[1:] or outputs in network.sizes[:-1]]  # fmt: skip


def _is_something_else(name: str, shape: tuple[int, ...], network: Network, weights: Weights) -> bool:
    """Return whether a name says so, by a word that the network's own name lacks."""
    size = int(np.prod(shape))
    if size == 0 or (size == 1 and _COUNTERS.search(name.lower())):
        return True
    words = words_beyond(name, network.layers[0], OTHERS, _OTHERS_TOO)
    if words == {"targ"}:
        return any((copied := rule.sub("", name, count=1)) != name and copied in weights for rule in _TARGETS)
    return bool(words)
