"""Recurrent states that a program takes and returns: what they may look like, and which of its results they become.

A state is a tensor, or tensors in tuples, lists and dictionaries. Its shapes are told by the program's own method for a
first state, else by the weights of its recurrent layers, else they are sizes of its other weights: whichever the
program takes, and gives back in the same shapes.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError

Array = npt.NDArray[Any]
State = Any
"""An array, or nested tuples, lists and dictionaries of arrays."""
Path = tuple[str | int, ...]
Shape = tuple[int, ...]
MOST_TRIES, MOST_WIDTHS, MOST_GRIDS, LARGEST = 600, 24, 8, 2**20
FIRST_STATES = ("initial_state", "get_initial_state", "init_hidden", "init_state", "initial_hidden", "initial_states",
                "init_hidden_state", "get_initial_states", "init_states", "zero_state", "init_rnn_state")  # fmt: skip
"""Methods by which policies give a first state."""
_WORDS = frozenset({"h", "c", "hx", "cx", "hc", "hidden", "cell", "state", "states", "rnn", "lstm", "gru", "memory",
                    "memories",
                    "cache", "ssm", "carry", "hiddens", "hxs", "recurrent", "h0", "c0", "hs", "cs"})  # fmt: skip


class NoState(SourceError):
    """Report that a parameter is no recurrent state, though it may be called so."""


class Keyed(dict[str, Any]):
    """Hold a dictionary of states whose keys are not known: whatever is `asked` for is one, all with the same zeros."""

    def __init__(self, leaf: Any, asked: dict[str, None] | None = None) -> None:
        self.leaf, self.asked = leaf, {} if asked is None else asked
        super().__init__(dict.fromkeys(self.asked, leaf))

    def __missing__(self, key: str) -> Any:
        self.asked[key] = None
        self[key] = self.leaf
        return self.leaf


@dataclass(frozen=True)
class Unit:
    """Hold a recurrent layer: its layers (0: a cell), its width, and how many tensors its state is."""

    layers: int
    width: int
    tensors: int

    @property
    def shapes(self) -> list[Shape]:
        """Return the shapes that each tensor of its state may have."""
        if not self.layers:
            return [(1, self.width), (self.width,)]
        return [(self.layers, 1, self.width), (self.layers, self.width), (1, self.layers, self.width)]


def names_state(name: str) -> bool:
    """Return whether a parameter is called like a recurrent state."""
    return not _WORDS.isdisjoint(re.findall(r"[a-z]+0?", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def mapped(state: State, change: Callable[[Any], Any]) -> State:
    """Return a state with every leaf changed."""
    if isinstance(state, Keyed):
        return Keyed(change(state.leaf), state.asked)
    if isinstance(state, dict):
        return {key: mapped(one, change) for key, one in state.items()}
    if isinstance(state, tuple | list):
        made = (mapped(one, change) for one in state)
        return list(made) if isinstance(state, list) else tuple(made)
    return change(state)


def leaves_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the leaves of nested results with their paths; what has no shape is left out."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves_of(one, (*path, key))
    elif isinstance(value, tuple | list):
        for place, one in enumerate(value):
            yield from leaves_of(one, (*path, place))
    elif hasattr(value, "shape"):
        yield path, value


def returned_at(result: Any, states: Mapping[str, State]) -> list[Path] | None:
    """Return where in a result every leaf of the states comes back, in their order; None where one does not.

    By name where results have names, else by shape: the last results first, so that what is left is the action.
    """
    free = {path: tuple(one.shape) for path, one in leaves_of(result)}
    wanted = [(path, tuple(one.shape)) for path, one in leaves_of(dict(states))]
    found: dict[Path, Path] = {}
    for path, shape in wanted:
        name = _name(path)
        named = [other for other, size in free.items() if size == shape and name and _name(other) == name]
        if len(named) == 1:
            found[path] = named[0]
            del free[named[0]]
    for path, shape in reversed(wanted):
        if path in found:
            continue
        fits = [other for other, size in free.items() if size == shape]
        if not fits:
            return None
        found[path] = fits[-1]
        del free[fits[-1]]
    return [found[path] for path, _ in wanted] if free else None


def at(result: Any, path: Path) -> Any:
    """Return the leaf at a path."""
    for step in path:
        result = result[step]
    return result


def without(result: Any, used: Sequence[Path], path: Path = ()) -> Any:
    """Return a result without the leaves at some paths; a tuple of one thing is that thing."""
    if isinstance(result, dict):
        kept = {key: without(one, used, (*path, key)) for key, one in result.items()}
        return {key: one for key, one in kept.items() if one is not None} or None
    if isinstance(result, tuple | list):
        left = [one for one in (without(one, used, (*path, k)) for k, one in enumerate(result)) if one is not None]
        return left[0] if len(left) == 1 else tuple(left) or None
    return None if path in used else result


def _name(path: Path) -> str:
    last = next((step for step in reversed(path) if isinstance(step, str)), "")
    if path and path[-1] != last:
        return ""
    return re.sub(r"^(new|next|prev|old)_|_(in|out|new|next|prev|old)$", "", last.lower())


def units_of(named: Sequence[tuple[str, Shape]]) -> list[Unit]:
    """Return the recurrent layers among named weights, torch's, in order."""
    layers: dict[str, list[Shape]] = {}
    for name, shape in named:
        place, _, own = name.rpartition(".")
        if re.fullmatch(r"weight_hh(_l\d+)?", own) and len(shape) == 2:
            layers.setdefault(f"{place}{' layers' * (own != 'weight_hh')}", []).append(shape)
    return [
        Unit(len(shapes) if place.endswith(" layers") else 0, width, 2 if rows == 4 * width else 1)
        for place, shapes in layers.items()
        for rows, width in shapes[:1]
    ]


def candidates(
    units: Sequence[Unit], named: Sequence[tuple[str, Shape]], names: Sequence[str]
) -> Iterator[dict[str, State]]:
    """Yield states, zeros, that parameters of these names may be, the likelier first."""
    if len(names) == 1:
        yield from ({names[0]: state} for state in itertools.islice(_states(units, named), MOST_TRIES))
        return
    for shapes in itertools.product(*(unit.shapes for unit in units)) if units else ():
        flat = [shape for shape, unit in zip(shapes, units, strict=True) for _ in range(unit.tensors)]
        per_unit = [
            tuple(_zeros(shape) for _ in range(unit.tensors)) for shape, unit in zip(shapes, units, strict=True)
        ]
        if len(flat) == len(names):
            yield {name: _zeros(shape) for name, shape in zip(names, flat, strict=True)}
        if len(units) == len(names):
            yield {name: state[0] if len(state) == 1 else state for name, state in zip(names, per_unit, strict=True)}
    own = list(itertools.islice(_states(units, named), MOST_WIDTHS * 3))
    for state in own:
        yield {name: mapped(state, np.copy) for name in names}
    for chosen in itertools.islice(itertools.product(own, repeat=len(names)), MOST_TRIES):
        yield dict(zip(names, chosen, strict=True))


def _states(units: Sequence[Unit], named: Sequence[tuple[str, Shape]]) -> Iterator[State]:
    for shapes in itertools.islice(itertools.product(*(unit.shapes for unit in units)), 27) if units else ():
        per_unit = [
            tuple(_zeros(shape) for _ in range(unit.tensors)) for shape, unit in zip(shapes, units, strict=True)
        ]
        flat = [leaf for state in per_unit for leaf in state]
        single = [state[0] if len(state) == 1 else state for state in per_unit]
        yield from [flat[0], Keyed(flat[0])] if len(flat) == 1 else [tuple(flat), list(flat)]
        if len(units) > 1:
            yield tuple(single)
            yield tuple(zip(*per_unit, strict=False))
        if len({leaf.shape for leaf in flat}) == 1 and len(flat) > 1:  # all in one tensor
            yield Keyed(flat[0])
            yield np.concatenate(flat, -1)
            yield np.concatenate(flat, 0)
            yield np.stack(flat)
            yield np.stack(flat, axis=1)
    for width in _widths(named):
        for shape in ((1, width), (1, 1, width), (width,)):
            yield _zeros(shape)
    for shape in _grids(named):
        yield _zeros((1, *shape))
        yield _zeros(shape)
    for width in _widths(named):
        for shape in ((1, width), (1, 1, width), (width,)):
            yield _zeros(shape), _zeros(shape)
            yield Keyed(_zeros(shape))
            yield _zeros((*shape[:-1], 2 * width))


def _grids(named: Sequence[tuple[str, Shape]]) -> list[Shape]:
    """Return shapes of parameters that are no layer's weights, as those by which state spaces decay."""
    shapes = [shape for name, shape in named if len(shape) in (2, 3) and not re.search(r"(weight|bias)\w*$", name)]
    return [shape for shape in dict.fromkeys(shapes) if int(np.prod(shape)) <= LARGEST][:MOST_GRIDS]


def _widths(named: Sequence[tuple[str, Shape]]) -> list[int]:
    sizes = [size for _, shape in named if len(shape) in (1, 2) for size in reversed(shape)]
    return list(dict.fromkeys(size for size in sizes if 1 < size <= LARGEST))[:MOST_WIDTHS]


def _zeros(shape: Shape) -> Array:
    return np.zeros(shape, np.float32)


def fitting(
    tries: Iterator[dict[str, State]], run: Callable[[dict[str, State]], Any]
) -> tuple[dict[str, State], tuple[Path, ...]] | None:
    """Return the first states that a program takes and gives back, and where in its result they are.

    Args:
        run: calls the program on zeros; raises where the states do not fit.

    Raises:
        NoState: it takes something, but returns one value only.
    """
    for tried in itertools.islice(tries, MOST_TRIES):
        try:
            result = run(tried)
            states = settled(tried)
            places = returned_at(result, states)
            if places is not None:
                run(after(states, result, places))
                return states, tuple(places)
        except Exception:
            continue
        if sum(1 for _ in leaves_of(result)) == 1:
            raise NoState("what is called like a state is not returned")
    return None


def after(states: Mapping[str, State], result: Any, places: Sequence[Path]) -> dict[str, State]:
    """Return the states in a result, as they go in again."""
    found = iter([at(result, place) for place in places])
    return mapped(dict(states), lambda _: next(found))


def settled(states: Mapping[str, State]) -> dict[str, State]:
    """Return states whose dictionaries have the keys that were asked for."""
    return {name: dict.fromkeys(state.asked, state.leaf) if isinstance(state, Keyed) else state
            for name, state in states.items()}  # fmt: skip
