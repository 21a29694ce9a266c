"""What every reader of programs that are no chain does at its ends: find the observation's size, compare the actor."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.protocol import KeyedShape
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_inputs import LARGEST, Inputs, inputs_of
from snn_policy.sources.graph_nodes import Memory, Observation
from snn_policy.sources.passed_states import NoState
from snn_policy.sources.stage_plan import needed
from snn_policy.sources.value_movements import SizeWanted
from snn_policy.sources.vecnormalize import ObservationStatistics

ROWS, LEAST_ROWS, MOST_SIZES, MOST_TRIES, TOLERANCE = 24, 8, 24, 200, 2e-4


def sizes_found(
    names: Sequence[str], given: Any, candidates: Sequence[int], follow: Callable[[Mapping[str, Any]], Any]
) -> Inputs:  # fmt: skip
    """Return the inputs' shapes: as given, else the sizes that the program can be followed with.

    Args:
        given: one shape, or a mapping from inputs to shapes; of several inputs also the number of all their values.
        candidates: sizes that an input may have.
        follow: follows the program with the shapes of its inputs; raises where they do not fit.

    Raises:
        SourceError: no size fits, or several do.
        UnsupportedLayerError: what the program does with the size that seems right.
    """
    if isinstance(given, KeyedShape):
        given = given.parts if set(given.parts) == set(names) else tuple(given)
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise SourceError(f"observation_shape: expected the inputs {', '.join(names)}, got {', '.join(given)}")
        return inputs_of({name: _shape(name, given[name]) for name in names}, given)
    if given is not None and len(names) == 1:
        return inputs_of({names[0]: tuple(int(size) for size in given)})
    return _guessed(names, None if given is None else math.prod(given), candidates, follow)


def _shape(name: str, given: Any) -> tuple[int, ...]:
    """Return the shape of one input, as it was given."""
    sizes = np.atleast_1d(np.asarray(given, dtype=object)).tolist()
    if not all(isinstance(size, int | np.integer) for size in sizes):
        raise SourceError(f"observation_shape: {name!r} is one observation, of a shape like (n,), not {given}")
    return tuple(int(size) for size in sizes)


def _guessed(
    names: Sequence[str], total: int | None, candidates: Sequence[int], follow: Callable[[Mapping[str, Any]], Any]
) -> Inputs:  # fmt: skip
    known = [*[size for size in dict.fromkeys(candidates) if size > 1][:MOST_SIZES], 1]
    problem: Exception | None = None
    unfit: Exception | None = None
    waiting = list(itertools.islice(_combinations(known, len(names), total), MOST_TRIES))
    tried = set[tuple[int, ...]]()
    while waiting and len(tried) < MOST_TRIES:
        sizes = waiting.pop(0)
        if sizes in tried:
            continue
        tried.add(sizes)
        error = _error(follow, names, sizes)
        if isinstance(error, UnsupportedLayerError) or "several values" in str(error):
            problem = problem or error
        if isinstance(error, NoState):
            unfit = unfit or error
        if isinstance(error, SizeWanted):
            waiting = [*_hinted(sizes, error, total), *waiting]
        if error is not None:
            continue
        if total is None and not _settled(follow, names, sizes):
            if len(names) > 1 or not _reads_as_far(follow, names[0], sizes[0]):
                continue
            told = " + ".join(map(str, sizes))
            warn(f"the observation is taken to have {told} values; pass observation_shape= if it has more")
        return inputs_of({name: (size,) for name, size in zip(names, sizes, strict=True)})
    if problem is not None or unfit is not None:
        raise problem or unfit  # pyright: ignore[reportGeneralTypeIssues]
    what = (
        "the observation's size is not known" if len(names) == 1 else f"the sizes of {', '.join(names)} are not known"
    )
    example = "(n,)" if len(names) == 1 else "{" + ", ".join(f"{name!r}: (n,)" for name in names) + "}"
    raise SourceError(f"{what}; pass observation_shape={example}")


def _hinted(sizes: tuple[int, ...], error: SizeWanted, total: int | None) -> list[tuple[int, ...]]:
    """Return sizes that the program itself asks for."""
    found = []
    if error.size and len(sizes) == 1:
        found.append((error.size,))
    for place in range(len(sizes) if error.missing else 0):
        rest = 0 if total is None or len(sizes) == 1 else error.missing
        changed = [size - rest * (other == (place + 1) % len(sizes)) for other, size in enumerate(sizes)]
        changed[place] += error.missing
        found.append(tuple(changed))
    fits = [one for one in found if all(0 < size <= LARGEST for size in one)]
    return [one for one in fits if total is None or sum(one) == total]


def _reads_as_far(follow: Callable[[Mapping[str, Any]], Any], name: str, size: int) -> bool:
    """Return whether the action needs every entry of an observation of that size, and no more of a longer one."""
    exact, longer = (_entries_read(*follow({name: (width,)})[:2]) for width in (size, size + 1))
    return bool(exact.all() and longer[:size].all() and not longer[size])


def _entries_read(observation: Observation, action: Value) -> npt.NDArray[np.bool_]:
    """Return which entries of the observation the action needs."""
    read = np.zeros(observation.width, bool)
    nothing = defaultdict[Memory, Value](lambda: Value.constant(np.zeros(1)))
    for value in (action, *(value for node in needed([action], nothing) for value in node.operands)):
        for term in value.terms:
            if term.node is observation:
                read[term.index[term.index >= 0]] = True
    return read


def _combinations(known: Sequence[int], count: int, total: int | None) -> Any:
    """Return sizes of all inputs; with their total, one is what is left; any split does where they are only joined."""
    if count == 1:
        yield from ((size,) for size in (known if total is None else [total]))
        return
    if total is not None:
        for sizes in itertools.product(known, repeat=count - 1):
            if total > sum(sizes):
                yield (*sizes, total - sum(sizes))
                yield (total - sum(sizes), *sizes)
        yield (total - count + 1, *[1] * (count - 1))
        return
    yield from itertools.product(known, repeat=count)
    for size in known:  # only joined
        if size >= count:
            yield (size - count + 1, *[1] * (count - 1))


def _settled(follow: Callable[[Mapping[str, Any]], Any], names: Sequence[str], sizes: tuple[int, ...]) -> bool:
    """Return whether no input could as well be longer."""
    for place in range(len(sizes)):
        longer = (*sizes[:place], sizes[place] + 1, *sizes[place + 1 :])
        if _error(follow, names, longer) is None:
            return False
    return True


def _error(
    follow: Callable[[Mapping[str, Any]], Any], names: Sequence[str], sizes: Sequence[int]
) -> Exception | None:  # fmt: skip
    try:
        follow({name: (size,) for name, size in zip(names, sizes, strict=True)})
    except ValueError as error:
        return error.with_traceback(None)  # whose frames hold all that was made
    return None


def compare(
    actor: Actor,
    own: Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]],
    normaliser: Sequence[ObservationStatistics],
    what: str,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare the actor with its source on consecutive random observations, from a reset on.

    Args:
        own: one observation, (*shape) → what the source makes of it, flat; it remembers what it must.

    Raises:
        UnsupportedLayerError: they differ.
    """
    rng, shape = np.random.default_rng(0), tuple(actor.observation_shape)
    drawn = rng.standard_normal((ROWS, *shape)) * np.resize((0.1, 1.0, 3.0), ROWS).reshape(-1, *[1] * len(shape))
    if actor.normaliser is not None:
        drawn = drawn * actor.normaliser.scale + actor.normaliser.mean
    rows = drawn.astype(np.float32)
    given = rows.reshape(ROWS, -1)
    for statistics in normaliser:
        given = statistics.fitted(given.shape[1:])(given).astype(np.float32)
    state, actions = actor.initial_state(1), list[npt.NDArray[Any]]()
    for row in rows:
        action, state = actor.step(row[None], state)
        actions.append(np.asarray(action, np.float64).reshape(-1))
    try:
        theirs = np.stack([np.asarray(own(row), np.float64).reshape(-1) for row in given])
    except Exception as problem:
        line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
        raise SourceError(f"{actor.name}: {what} fails on observations {shape} ({line})") from problem
    ours = np.stack(actions)
    finite = np.isfinite(theirs).all(-1)
    if theirs.shape == ours.shape and finite.sum() >= LEAST_ROWS:
        theirs, ours = theirs[finite], ours[finite]
        if actor.discrete:
            agree = float(np.mean(theirs == ours)) > 0.9
        else:
            theirs = np.clip(theirs, actor.low, actor.high)
            agree = bool(np.abs(theirs - ours).max() <= tolerance * (1 + np.abs(theirs).max()))
        if agree and not finite.all():
            lost = (
                f"no numbers for {ROWS - finite.sum()} of {ROWS} random observations (something overflows in float32)"
            )
            warn(f"{actor.name}: {what} makes {lost}; the actor makes what its functions are")
        if agree:
            return
    reason = f"{what} makes other actions than its stages, as read"
    raise UnsupportedLayerError("forward", actor.name, reason, "Export it in evaluation mode, with one row at a time")
