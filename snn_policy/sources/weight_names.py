"""Networks in a dictionary of weights, by nothing but names and shapes: a prefix, ordered numbers, (out, in) chains.

`actor.0.weight, actor.2.weight, …` are the layers of the network `actor`; `fc1.weight, fc2.weight` those of `fc`; a
layer without a number that takes what the last of them gives (`mu`, `fc_mean`, `action_net`) is its end.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.refusals import refusal
from snn_policy.sources.unpickling import Array
from snn_policy.sources.weight_values import is_array, refuse_quantised, shape_of

MOST_ENTRIES, DEEPEST, LONGEST = 100_000, 16, 300
_HUGE = 2**60
Weights = dict[str, Any]
"""Tensors and arrays by their full names, joined by points."""
_OF_LAYERS = ("weight", "kernel", "bias")
_NUMBER = re.compile(r"\d+(?=(\.[^.\d]+)?$)")
POLICY = re.compile(r"(^|[._])(actor|policy|pi|mu|means?|actions?|loc)([._]|$)")
OTHERS = re.compile(
    r"critic|value|baseline|(^|[._])[vq]f?\d?(\.|$|_(\d|net|func|head|targ|optim))|(^|[._])[vq]net|targ|optim|opt_state|"
    r"discriminator|std|sigma|teacher|reward|(^|[._])(rnd|disc)([._]|$)"
)
ENDS = re.compile(
    r"(^|[._])((actor|policy|pi|mu|means?|actions?|loc)(_(net|layer|linear|logits|fc))?|distribution_linear|"
    r"out|output|output_layer|head|last|last_layer|fc)$"
)


@dataclass(frozen=True)
class Network:
    """Hold a chain of linear layers by their names.

    Attributes:
        prefix: what their names have in common.
        layers: the layers' full names, without `.weight`.
        sizes: of the input, then of every layer's output.
        others: the layers of networks that are known to be something else, by what they take and give.
    """

    prefix: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    others: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.prefix or 'without a prefix'} ({' → '.join(map(str, self.sizes))})"


def flattened(root: Any) -> Weights:
    """Return what has numbers in nested dictionaries, by names joined with points.

    Raises:
        SourceError: too much, too deep, or in a circle.
    """
    return {
        name: value
        for name, value in leaves(root)
        if is_array(value) or (isinstance(value, Array) and name.rpartition(".")[2] in _OF_LAYERS)
    }


def bare_numbers(root: Any) -> dict[str, float]:
    """Return the single numbers among the arrays of a checkpoint, by their names."""
    numbers = (one for one in leaves(root) if isinstance(one[1], int | float | np.integer | np.floating))
    return {name: float(value) for name, value in numbers
            if not isinstance(value, bool) and not (isinstance(value, int) and abs(value) > _HUGE)}  # fmt: skip


def leaves(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield what lies in nested dictionaries by its name, in their order."""
    waiting: list[tuple[str, Any, int]] = [("", root, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        seen += 1
        if seen > MOST_ENTRIES or depth > DEEPEST:
            raise SourceError("a checkpoint of more entries than one has, or in a circle; refused")
        if isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            parts = [(str(key)[:200].replace("/", "."), inner) for key, inner in value.items()]
            waiting += [(f"{name}.{key}" if name else key, inner, depth + 1) for key, inner in reversed(parts)]
        else:
            yield name, value


def words_beyond(name: str, own: str, *rules: re.Pattern[str]) -> set[str]:
    """Return the words that the rules find in a name and not in the network's own."""
    theirs, ours = (
        {match[0].strip("._") for rule in rules for match in rule.finditer(one.lower())} for one in (name, own)
    )
    return theirs - ours


def networks_among(weights: Weights, wanted: Callable[[str], bool]) -> list[Network]:
    """Return all numbered chains of wanted names, each with its end, where it has one."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    plain: list[str] = []
    networks = folders_of_layers(weights, numbered=True)
    for key in weights:
        base, _, last = key.rpartition(".")
        if last not in _OF_LAYERS[:2]:
            continue
        number = _NUMBER.search(base)
        head = number is not None and ENDS.search(base[number.end() :]) and base.rpartition(".")[0] in networks
        if number is None or head:  # actor2.mu beside actor2.0 is a head of the second actor, no second layer
            plain.append(base)
        else:
            template = base[: number.start()], base[number.end() :]
            groups.setdefault(template, {})[int(number[0])] = base
    found = []
    for (before, after), layers in groups.items():
        name = (before + after.lstrip(".") if not before.endswith(".") else before.rstrip(".") + after).rstrip("._")
        if wanted(name):
            found += _chain(weights, name, [layers[number] for number in sorted(layers)], plain, networks)
    return found


def _chain(weights: Weights, name: str, layers: list[str], plain: list[str], networks: set[str]) -> list[Network]:
    """Return these layers' network; none if they are of something else than a policy, which may hold anything."""
    kept = []
    other = OTHERS.search(name.lower()) is not None
    for layer in layers:
        shape = shape_of(weights[weight_name(weights, layer)])
        if not other:
            refuse_quantised(weights, weight_name(weights, layer))
        if len(shape) == 2:
            kept.append(layer)
        elif other or "optim" in name:
            return []
        elif len(shape) == 1 and f"{layer}.running_mean" not in weights:
            raise refusal(layer, "LayerNorm" if f"{layer}.bias" in weights else "RMSNorm")
        elif len(shape) == 1:
            raise UnsupportedLayerError(layer, "BatchNorm", "its place among activations is not stored", MODULE)
        else:
            raise UnsupportedLayerError(
                layer, f"Conv{len(shape) - 2}d", "its stride and padding are not stored", MODULE
            )
    if not kept:
        return []
    sizes = [layer_shape(weights, kept[0])[1]]
    for layer in kept:
        outputs, inputs = layer_shape(weights, layer)
        if inputs != sizes[-1]:
            if other:
                return []
            reason = f"it takes {inputs} values, but the layer before gives {sizes[-1]}"
            raise UnsupportedLayerError(layer, "Linear", reason, MODULE)
        sizes.append(outputs)
    end = _end(weights, kept[0], sizes[-1], plain, networks)
    if end is not None:
        kept.append(end)
        sizes.append(layer_shape(weights, end)[0])
    return [Network(name, tuple(kept), tuple(sizes))]


MODULE = "Build the network, call its load_state_dict, and pass the module"


def _end(weights: Weights, first: str, width: int, plain: list[str], networks: set[str]) -> str | None:
    """Return the unnumbered layer nearest by name that takes `width` values and is named like an action.

    Args:
        networks: the folders of numbered layers, whose other layers belong to those.
    """
    fitting = [
        base
        for base in plain
        if ENDS.search(base.lower())
        and not OTHERS.search(base.lower().rpartition(".")[2])
        and not words_beyond(base, first, OTHERS)
        and not lies_in_another(base, first, networks)
        and (POLICY.search(base.lower()) or first.startswith(base[: base.rfind(".") + 1]))
        and len(shape_of(weights[weight_name(weights, base)])) == 2
        and layer_shape(weights, base)[1] == width
    ]
    shared = {base: shared_words(base.split("."), first.split(".")) for base in fitting}
    nearest = [base for base in fitting if shared[base] == max(shared.values())]
    if len(nearest) > 1:
        nearest = [base for base in nearest if POLICY.search(base.lower().rpartition(".")[2])]
    return nearest[0] if len(nearest) == 1 else None


def folders_of_layers(weights: Weights, numbered: bool = False) -> set[str]:
    """Return all folders that hold a matrix, of `numbered` layers alone: those are networks, no heads."""
    found = set[str]()
    for key in weights:
        base, _, last = key.rpartition(".")
        if last not in _OF_LAYERS[:2] or len(base) > LONGEST or (numbered and not base[-1:].isdigit()):
            continue
        if len(shape_of(weights[key])) == 2:
            while (base := base.rpartition(".")[0]) and base not in found:
                found.add(base)
    return found


def lies_in_another(name: str, layer: str, folders: set[str]) -> bool:
    """Return whether a name lies in one of the folders and a network's layer does not."""
    theirs = name.split(".")
    place = shared_words(theirs, layer.split("."))
    return place < len(theirs) - 1 and ".".join(theirs[: place + 1]) in folders


def shared_words(one: list[str], other: list[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def weight_name(weights: Weights, layer: str) -> str:
    prefix = f"{layer}." if layer else ""
    return f"{prefix}weight" if f"{prefix}weight" in weights else f"{prefix}kernel"


def layer_shape(weights: Weights, layer: str) -> tuple[int, int]:
    """Return (outputs, inputs); kernels are stored the other way round."""
    name = weight_name(weights, layer)
    first, second = shape_of(weights[name])
    return (second, first) if name.endswith("kernel") else (first, second)
