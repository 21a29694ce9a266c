"""Which of a checkpoint's networks is the policy: by its name, its parts' names, or what the others take and give."""

import re
from dataclasses import replace

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.refusals import QUANTISED, refusal
from snn_policy.sources.weight_names import (
    ENDS,
    MODULE,
    OTHERS,
    POLICY,
    Network,
    Weights,
    networks_among,
    shared_words,
    words_beyond,
)
from snn_policy.sources.weight_values import quantised_among, shape_of

_SHOWN, _MOST = 12, 100
_RLLIB = ["pi", "net", "mlp"]
"""A head that gives means and spreads, or the logits of choices: which, the names do not say."""
_OLD = re.compile(r"_old(?=\.|$)")
_RECURRENT = re.compile(r"^(.*?)\.?weight_hh(_l0)?$")


def chosen_network(weights: Weights, prefix: str | None) -> Network:
    """Return the network that is the policy: the one under the prefix, or the only one that can be.

    Raises:
        SourceError: none, or several; it lists them.
        UnsupportedLayerError: the policy is recurrent, convolutional, or holds a LayerNorm.
    """
    if prefix is not None:
        wanted = prefix.rstrip(".")
        found = networks_among(weights, lambda name: name == wanted or name.startswith(f"{wanted}."))
        found = [part for part in found if part.prefix == wanted] or found
        found = [part for part in found if not words_beyond(part.prefix, wanted, OTHERS)] or found
    else:
        _refuse_recurrent(weights)
        found = networks_among(weights, lambda name: not OTHERS.search(name.lower()))
    if not found:
        others = networks_among(weights, lambda name: bool(OTHERS.search(name.lower())))
        known = ", ".join(map(str, others)) or f"none among {len(weights)} arrays"
        under = "" if prefix is None else f" under {prefix!r}"
        quantised = quantised_among(weights)
        if quantised is not None:
            raise UnsupportedLayerError(quantised, *QUANTISED)
        raise SourceError(f"no chain of linear layers{under} that is a policy; found: {known}; pass prefix=")
    found = _without_copies(found)
    whole = found[0] if len(found) == 1 else _joined(found) or _above_its_critics(found)
    if whole is not None:
        return whole
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    listed = ", ".join(map(str, found[:_SHOWN])) + more
    feeding = _feeding(found)
    if feeding is not None:
        one, other = (network.prefix or "the one without a prefix" for network in feeding)
        remedy = f"{one} gives as many values as {other} takes, so neither may be the whole policy; {MODULE.lower()}"
    else:
        remedy = "pass prefix= with the one that is the whole policy"
    raise SourceError(f"several networks fit: {listed}; {remedy}")


def _joined(found: list[Network]) -> Network | None:
    """Return the network of a trunk and its head, where there are these two, and the names say that it is the head."""
    if len(found) != 2:
        return None
    pairs = [
        (trunk, head)
        for trunk in found
        for head in found
        if trunk is not head and trunk.sizes[-1] == head.sizes[0] and _is_head(head, trunk)
    ]
    if len(pairs) != 1:
        return None
    trunk, head = pairs[0]
    common = trunk.prefix.split(".")[: shared_words(trunk.prefix.split("."), head.prefix.split("."))]
    return Network(".".join(common), trunk.layers + head.layers, trunk.sizes + head.sizes[1:])


def _is_head(head: Network, trunk: Network) -> bool:
    """Return whether a network is one layer, and named like an action where the trunk is not.

    Of several layers it is a head only by Tianshou's names, whose trunks end in an activation.
    """
    parts, others = head.prefix.lower().split("."), trunk.prefix.lower().split(".")
    common = shared_words(parts, others)
    rest, theirs = parts[common:], others[common:]
    if rest[-3:] == _RLLIB:
        return False
    named = any(ENDS.search(part) for part in rest[:1]) or POLICY.search(".".join(rest)) is not None
    doubtful = any(ENDS.search(part) for part in theirs)
    return named and not doubtful and (len(head.layers) == 1 or theirs[:1] == ["preprocess"])


def _without_copies(found: list[Network]) -> list[Network]:
    """Return the networks without those whose names say that they are the older copies of others."""
    own = {(part.prefix, part.sizes) for part in found}
    plain = [_OLD.sub("", part.prefix, count=1) for part in found]
    return [part for part, name in zip(found, plain, strict=True)
            if name == part.prefix or (name, part.sizes) not in own]  # fmt: skip


def _feeding(found: list[Network]) -> tuple[Network, Network] | None:
    """Return the first network that gives as many values as one of another shape takes, and that one."""
    takers: dict[int, list[Network]] = {}
    for part in found[:_MOST]:
        takers.setdefault(part.sizes[0], []).append(part)
    pairs = ((one, other) for one in found[:_MOST] for other in takers.get(one.sizes[-1], ()))
    return next(((one, other) for one, other in pairs if one.sizes != other.sizes), None)


def _above_its_critics(found: list[Network]) -> Network | None:
    """Return the network that ends in an action by name, where the others take its action too, and give one value."""
    ends = {part: part.layers[-1].lower().rpartition(".")[2] for part in found}
    named = [part for part in found if POLICY.search(ends[part])]
    if len(named) != 1:
        return None
    policy = named[0]
    rest = [part for part in found if part is not policy]
    if any(part.sizes[0] != policy.sizes[0] + policy.sizes[-1] or part.sizes[-1] != 1 for part in rest):
        return None
    return replace(policy, others=frozenset(layer for part in rest for layer in part.layers))


def _refuse_recurrent(weights: Weights) -> None:
    for key, value in weights.items():
        match = _RECURRENT.match(key)
        if match and not OTHERS.search(key.lower()) and "memory_c" not in key and len(shape_of(value)) == 2:
            gates, rest = divmod(shape_of(value)[0], max(1, shape_of(value)[1]))
            kind = {4: "LSTM", 3: "GRU"}.get(gates, "RNN") if rest == 0 else "RNN"
            raise refusal(match[1] or key, kind)
