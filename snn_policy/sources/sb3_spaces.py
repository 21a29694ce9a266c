"""Spaces in a Stable-Baselines3 zip: exact bounds from their serialised form, by the unpickler for numbers only.

The printed form beside it depends on `np.set_printoptions`: it is only used where the serialised one cannot be read,
and only if it cannot have been shortened.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.protocol import KeyedShape
from snn_policy.sources.unpickling import Array, Stub, load_numbers, mappings

_GIVE = "pass low= and high="
_EXACT_DIGITS = {"float32": 9, "float64": 17}


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """Hold a Box's bounds, each (n,) float64 or unknown; or the number of `choices`, of several actions a tuple."""

    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None
    choices: int | tuple[int, ...] | None = None


def kind_of(space: Any) -> str:
    """Return the class of a space: Box, Discrete, …"""
    return re.sub(r".*\.|'>", "", str(space.get(":type:", "unknown")))


def shape_of(space: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in (space["_shape"] if "_shape" in space else space["shape"]))


def serialised(value: Any) -> Any:
    """Return the root of a serialised part; None where it is missing, or is more than numbers."""
    text = value.get(":serialized:") if isinstance(value, dict) else None
    if not isinstance(text, str):
        return None
    try:
        return load_numbers(base64.b64decode(text, validate=True), mappings)
    except Exception:  # whatever a malformed pickle raises
        return None


def serialised_array(value: Any) -> npt.NDArray[Any] | None:
    root = serialised(value)
    return root.values if isinstance(root, Array) else None


def serialised_bounds(space: dict[str, Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return low and high of a Box as they are, of the space's shape and type; None where they cannot be read."""
    root = serialised(space)
    if not isinstance(root, Stub):
        return None
    bounds = [side.values if isinstance(side, Array) else None for side in map(root.fields.get, ("low", "high"))]
    if bounds[0] is None or bounds[1] is None or not bounds[0].shape == bounds[1].shape == shape_of(space):
        return None
    return bounds[0], bounds[1]


def holds_bytes(space: dict[str, Any]) -> bool:
    """Return whether a Box is of images of bytes 0 to 255."""
    if len(shape_of(space)) != 3 or "uint8" not in str(space.get("dtype")):
        return False
    bounds = serialised_bounds(space)
    if bounds is not None:
        return bool((bounds[0] == 0).all() and (bounds[1] == 255).all())

    def everywhere(name: str, value: str) -> bool:  # NumPy shortens its printed bounds, which are equal everywhere
        printed = re.findall(r"[\d.]*\d", f"{space.get(name)} {space.get(f'{name}_repr')}")
        return bool(printed) and set(printed) == {value}

    return everywhere("low", "0") and everywhere("high", "255")


def action_space(space: dict[str, Any]) -> ActionSpace:
    """Return the choices of a Discrete, or the bounds of a one-dimensional Box.

    Raises:
        UnsupportedLayerError: another space.
        SourceError: printed bounds that are no numbers, or not of as many actions as the serialised ones.
    """
    kind = kind_of(space)
    if kind == "Discrete":
        return ActionSpace(choices=int(space["n"]))
    if kind == "MultiDiscrete":
        root = serialised(space)
        held = [root.fields.get(key) if isinstance(root, Stub) else None for key in ("nvec", "start")]
        nvec, start = (array.values if isinstance(array, Array) else None for array in held)
        if nvec is None:
            nvec = np.array([int(word) for word in _words(space.get("nvec"))])
        return ActionSpace(choices=several_choices(nvec, np.zeros_like(nvec) if start is None else start))
    size = checked_actions(kind, shape_of(space) if kind == "Box" else ())
    exact = serialised_bounds(space)
    if exact is None:
        low, high = (_printed(space, name, size) for name in ("low", "high"))
        if low is not None and high is not None:
            reason = "its serialised action space holds more than numbers, or cannot be read"
            warn(f"{reason}: the action bounds come from its printed form")
        return ActionSpace(low, high)
    sound = _is_print(space.get("low"), "low", size) and _is_print(space.get("high"), "high", size)
    return ActionSpace(exact[0].astype(np.float64), exact[1].astype(np.float64)) if sound else ActionSpace()


def keyed_shape(space: dict[str, Any]) -> KeyedShape:
    """Return the shape of a Dict of Boxes from its serialised form.

    Raises:
        UnsupportedLayerError: other spaces within, or images.
    """
    root = serialised(space)
    inner = root.fields.get("spaces") if isinstance(root, Stub) else None
    if not isinstance(inner, dict):
        raise SourceError("observation_space: its dictionary of spaces cannot be read; pass the live algorithm")
    parts: dict[str, tuple[int, ...]] = {}
    for key, part in inner.items():
        bounds = part.fields.get("low") if isinstance(part, Stub) else None
        kind = part.stands_for.rpartition(".")[2] if isinstance(part, Stub) else type(part).__name__
        shape = bounds.values.shape if isinstance(bounds, Array) and bounds.values is not None else None
        parts[str(key)] = checked_part(str(key), kind, shape)
    return KeyedShape(parts)


def checked_part(key: str, kind: str, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of one of a Dict's spaces, a Box that is no image."""
    if kind != "Box" or shape is None or len(shape) == 3:
        reason = "of a dictionary's spaces, only Boxes of vectors are read"
        what = f"{kind} of shape {shape}" if shape else kind
        raise UnsupportedLayerError(f"observation_space[{key!r}]", what, reason, "Train on vectors, or pass a module")
    return shape


def several_choices(nvec: npt.NDArray[Any], start: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return how many choices each action of a MultiDiscrete has.

    Raises:
        UnsupportedLayerError: a grid of actions, or actions that are not counted from zero.
    """
    if nvec.ndim != 1 or not nvec.size or np.any(start) or not (nvec > 0).all():
        reason = "only one row of actions that count from zero is read"
        raise UnsupportedLayerError("action_space", "MultiDiscrete", reason, "Flatten the action space")
    return tuple(int(count) for count in nvec)


def checked_actions(kind: str, shape: tuple[int, ...]) -> int:
    """Return the number of actions of a one-dimensional Box."""
    if kind != "Box" or len(shape) != 1:
        what = kind if kind != "Box" else f"Box of shape {shape}"
        reason = "only Discrete and one-dimensional Box actions are read"
        remedy = "Flatten the action space"
        raise UnsupportedLayerError("action_space", what, reason, remedy)
    return shape[0]


def _is_print(text: Any, name: str, size: int) -> bool:
    """Return whether printed bounds can be a print, however shortened, of the serialised ones, or were altered.

    Raises:
        SourceError: they are of another number of actions, or no numbers.
    """
    words, shortened = _words(text), "..." in str(text)
    if text is not None and not shortened and len(words) not in (1, size):
        raise SourceError(f"action_space: could not convert {name} {text} to {size} numbers; {_GIVE}")
    if any(word.lower() == "nan" for word in words):
        raise SourceError(f"action_space: {name} holds NaN; {_GIVE}")
    return text is not None and not (shortened and len(words) > size)


def _words(text: Any) -> list[str]:
    return re.sub(r"[\[\],]", " ", str(text)).split()


def _printed(space: dict[str, Any], name: str, size: int) -> npt.NDArray[np.float64] | None:
    """Return a bound from its printed form; None where that may have been shortened."""
    texts = (space.get(f"{name}_repr"), space.get(name))
    for text in sorted(texts, key=lambda text: str(text).lstrip().startswith("[")):
        words = _words(text) if text is not None and "..." not in str(text) else []
        numbers = np.array([float(word) for word in words])
        scalar = not str(text).lstrip().startswith("[")  # of a number, NumPy prints all digits
        if words and (scalar or all(_whole(word, str(space.get("dtype"))) for word in words)):
            return np.broadcast_to(numbers, (size,))
    return None


def _whole(word: str, dtype: str) -> bool:
    """Return whether a printed number is surely exact: in binary it is as short as in print, or has all digits.

    A trailing zero after the point is none of NumPy's: a formatter has rounded.
    """
    mantissa = word.lstrip("+-").lower().partition("e")[0]
    if mantissa in ("inf", "nan"):
        return True
    if float(word) == 0 and word.startswith("-"):
        return False  # rounded to it
    digits = len(mantissa.replace(".", "").strip("0"))
    formatted = "." in mantissa and mantissa.endswith("0") and "e" not in word
    dyadic = float(word) * 2**16 == round(float(word) * 2**16) if abs(float(word)) < 2**24 else False
    return digits >= _EXACT_DIGITS.get(dtype, 17) or (dyadic and not formatted)
