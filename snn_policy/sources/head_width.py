"""Heads of checkpoints that give twice as many values as the policy has actions: means and spreads in one layer.

Which of them are the means, and whether they are squashed, no file says; a head whose name does is read by its rule.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.weight_names import OTHERS, Network, Weights, leaves, words_beyond
from snn_policy.sources.weight_values import shape_of, type_of, values_of

_COUNTS = re.compile(
    r"(n|nb|num|n_of|number_of)_?(actions?|acts?)|(actions?|acts?|ac|a)_?(dims?|size|shape|num|count|space_dim)|nu"
)
_SPREADS = re.compile(r"(\w+_)?log_?(std|sigma)(_param)?|std(_param)?|sigma(_param)?")
_SCALES = re.compile(r"action_(scale|bias|low|high|min|max)|max_action|min_action")
_OBSERVED = re.compile(r"norm|rms|obs|state_")
_MEANS = "Build the network with a forward that returns the means alone, call its load_state_dict, and pass the module"


def refuse_doubled_head(
    root: Any, weights: Weights, network: Network, bounds: Mapping[str, Any], used: set[str]
) -> None:
    """Refuse a head of exactly two values for every action, where anything says how many actions there are.

    Args:
        root: the checkpoint; `weights`: all its arrays; `used`: those that are something else, as statistics.
        bounds: low and high, as the user gave them.

    Raises:
        UnsupportedLayerError: it names the head, and what says how many actions there are.
    """
    width, end = network.sizes[-1], network.layers[-1]
    told = _told(root, weights, network, bounds, used)
    if width in told.values():
        return
    source = next((name for name, count in told.items() if 2 * count == width), None)
    if source is not None:
        actions = f"the {width // 2} action{'s' * (width > 2)} of {source}"
        reason = f"it gives {width} values for {actions}: means and spreads in one layer, by all appearances"
        raise UnsupportedLayerError(end, "Linear", reason, _MEANS)


def _told(root: Any, weights: Weights, network: Network, bounds: Mapping[str, Any], used: set[str]) -> dict[str, int]:
    """Return how many actions there are, by what says so."""
    told = {f"{name}=": np.size(value) for name, value in bounds.items() if np.ndim(value) == 1}
    for name, value in leaves(root):
        last = name.rpartition(".")[2].lower()
        if _COUNTS.fullmatch(last):
            held = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
            if isinstance(held, int | np.integer) and not isinstance(held, bool) and held > 0:
                told[name] = int(held)
    for name, value in weights.items():
        folder, _, last = name.lower().rpartition(".")
        size = int(np.prod(shape_of(value)))
        if size == 1 and _COUNTS.fullmatch(last) and type_of(value).startswith(("int", "uint")):
            told[name] = int(values_of(weights, name, whole=True).reshape(-1)[0])
        known = _SCALES.fullmatch(last) or (_SPREADS.fullmatch(last) and not _OBSERVED.search(name.lower()))
        if known and size > 1 and name not in used and not words_beyond(folder, network.layers[0], OTHERS):
            told[name] = size
    return told
