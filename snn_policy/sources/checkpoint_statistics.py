"""Observation statistics that checkpoints hold, by the names and the formulas of the libraries that keep them.

x = clip((obs − mean) / spread, ±reach), with spread the standard deviation and an ε, within the root or beside it. A
library stores neither ε nor reach, as a rule; where one is stored, it is taken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, warn
from snn_policy.sources.operations import Operation, clip, entries, scale
from snn_policy.sources.weight_names import (
    Network,
    Weights,
    bare_numbers,
    folders_of_layers,
    lies_in_another,
    words_beyond,
)
from snn_policy.sources.weight_values import shape_of, values_of

_OF_OTHERS = re.compile(
    r"critic|value|privileged|return|amp_|disc|teacher|reward|(^|[._])(rnd|vf|old|ema|targ(et)?s?)([._]|$)"
)
_EPSILONS = ("epsilon", "eps", "_epsilon", "_eps")
_LARGEST_EPSILON = 0.01
"""One that lies beside everything else and is larger is the share of random actions in training."""
_REACHES = ("_clip", "clip", "clip_obs", "clip_threshold")
_GIVE = "pass normaliser=(mean, variance), or False"


@dataclass(frozen=True)
class _Statistics:
    """Describe how a library names and uses its observation statistics.

    Attributes:
        squared: the spread is stored as its square.
        within: ε is added to the variance, not to the standard deviation.
        beside: what it stores with them, which says the same.
        named: the folder that says whose they are; of others of that kind a line tells what is assumed.
        needs: stored by this library and by none of the same names; `sure`: and without this, no rule is assumed.
    """

    mean: str
    spread: str
    squared: bool
    epsilon: float
    within: bool
    reach: float
    libraries: str
    beside: tuple[str, ...] = ()
    named: str = ""
    needs: str = ""
    sure: str = ""


_KINDS = (
    _Statistics("_mean", "_std", False, 0.0, False, np.inf, "omnisafe", ("_var", "_sumsq"), needs="_sumsq"),
    _Statistics(
        "_mean", "_std", False, 1e-2, False, np.inf, "rsl_rl", ("_var",), r"obs_norm(alizer|_state_dict)$", sure="_var"
    ),
    _Statistics(
        "running_mean", "running_var", True, 1e-5, True, 5.0, "rl_games, Sample Factory", (), "running_mean_std$"
    ),
    _Statistics("running_mean", "running_variance", True, 1e-8, False, 5.0, "skrl"),
    _Statistics("mean", "var", True, 1e-8, True, 10.0, "safe-control-gym", (), "obs_normalizer$"),
)


def own_statistics(root: Any, weights: Weights, network: Network, used: set[str]) -> list[Operation]:
    """Return the normalisation by the statistics that the checkpoint holds for observations of this network's size.

    Args:
        root: the checkpoint; `weights`: all its arrays; `used`: takes the names of those that are read.

    Raises:
        SourceError: several fit, or nothing tells how they are used.
    """
    found = _found(weights, network)
    if not found:
        return []
    if len(found) > 1:
        named = ", ".join(folder for folder, _ in found)
        raise SourceError(f"several observation statistics fit: {named}; {_GIVE}")
    folder, kind = found[0]
    within = f"{folder}." if folder else ""
    used |= {within + key for key in (kind.mean, kind.spread, *kind.beside)}
    mean, spread = (values_of(weights, within + key, whole=True).reshape(-1) for key in (kind.mean, kind.spread))
    numbers = bare_numbers(root).items()
    stored = {key: value for key, value in numbers if key not in _EPSILONS or value <= _LARGEST_EPSILON} | weights
    above = folder.rpartition(".")[0]
    places = [within, f"{above}."] if above and above not in folders_of_layers(weights) else [within]
    epsilon, told = _stored(stored, places, _EPSILONS, len(mean))
    reach, clipped = _stored(stored, places, _REACHES, len(mean))
    used |= {told, clipped}
    _tell(within, kind, (told, epsilon), (clipped, reach), kind.sure and within + kind.sure in weights)
    epsilon, reach = kind.epsilon if epsilon is None else epsilon, kind.reach if reach is None else reach
    if kind.squared:
        spread = np.sqrt(spread + epsilon) if kind.within else np.sqrt(spread) + epsilon
    else:
        spread = spread + epsilon
    usable = (spread > 0) & np.isfinite(spread)
    if not usable.all():
        raise SourceError(f"{folder}: the standard deviation is zero (or no number) at {entries(~usable)}")
    operations: list[Operation] = [scale(folder, "normaliser", 1 / spread, -mean / spread)]
    return operations if np.all(reach == np.inf) else [*operations, clip(folder, "clip", -reach, reach)]


def _found(weights: Weights, network: Network) -> list[tuple[str, _Statistics]]:
    """Return the folders of statistics that may be the policy's, each with its kind."""
    size, first = network.sizes[0], network.layers[0]
    folders, found = folders_of_layers(weights), dict[tuple[str, str], _Statistics]()
    for key in weights:
        folder, _, last = key.rpartition(".")
        within = f"{folder}." if folder else ""
        for kind in _KINDS:
            stored = last == kind.mean and within + kind.spread in weights
            if not stored or (kind.needs and within + kind.needs not in weights):
                continue
            if words_beyond(folder, first, _OF_OTHERS) or lies_in_another(key, first, folders):
                continue
            fits = all(int(np.prod(shape_of(weights[name]))) == size for name in (key, within + kind.spread))
            if fits and not any(layer.startswith(f"{folder}.") for layer in network.layers):
                found.setdefault((folder, kind.mean), kind)
    return [(folder, kind) for (folder, _), kind in found.items()]


def _stored(stored: Mapping[str, Any], places: list[str], names: tuple[str, ...], size: int) -> tuple[Any, str]:
    """Return the number that lies by one of these names beside the statistics, and its whole name; None and "" without.

    Raises:
        SourceError: no number for every entry, or several that differ.
    """
    found = [place + name for place in places for name in names if place + name in stored]
    values = [np.ravel(stored[name] if isinstance(stored[name], float) else values_of(stored, name, whole=True))
              for name in found]  # fmt: skip
    for name, value in zip(found, values, strict=True):
        if value.size not in (1, size) or not (value >= 0).all() or not (value == values[0]).all():
            raise SourceError(f"{name} {value.tolist()[:3]}: not to be used with statistics of {size} entries; {_GIVE}")
    if not found:
        return None, ""
    return (values[0][0] if (values[0] == values[0][0]).all() else values[0]), found[0]


def _tell(within: str, kind: _Statistics, epsilon: tuple[str, Any], reach: tuple[str, Any], sure: Any) -> None:
    """Tell what is assumed of statistics whose file does not say how they are used, and what is stored with them."""
    names = f"{within}{kind.mean}, {kind.spread}"
    known = not kind.named or re.search(kind.named, within.rstrip(".")) is not None
    if kind.sure and not known and not sure and epsilon[1] is None:
        raise SourceError(f"{names}: the file does not say what is added to the standard deviation; {_GIVE}")
    parts = []
    for what, (name, value), usual in (("ε", epsilon, kind.epsilon), ("a clip to ±", reach, kind.reach)):
        number = usual if value is None else np.max(value)
        spelled = f"{what} {number:g}" if what == "ε" else f"{what}{number:g}"
        parts.append(("no clip" if number == np.inf else spelled) + (f" (stored as {name})" if name else ""))
    rule = " and ".join(parts)
    if not known:
        warn(
            f"{names}: the file does not say how they are used; taken: {rule}, as in {kind.libraries}; "
            "if they are used otherwise, pass normaliser="
        )
    elif (epsilon[0] or reach[0]) and not kind.needs:
        warn(f"{names}: taken: {rule}; if they are used otherwise, pass normaliser=")
