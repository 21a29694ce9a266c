"""How a program with recurrent states is called: which parameters are observations or states, of what shapes."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.sources.affine_values import Value
from snn_policy.sources.passed_states import (
    FIRST_STATES,
    NoState,
    Path,
    State,
    after,
    candidates,
    fitting,
    leaves_of,
    mapped,
    names_state,
    units_of,
    without,
)

Array = npt.NDArray[Any]
_DENOISING = frozenset({"noise", "noisy", "timestep", "timesteps", "denoising", "diffusion"})
_OBSERVATIONS = frozenset({"x", "obs", "ob", "observation", "observations", "input", "inputs", "o", "features"})


def refuse_denoising(path: str, inputs: Sequence[str]) -> None:
    """Raise where an input beside the first is noise, or a step of time."""
    noisy = [name for name in inputs[1:] if not _DENOISING.isdisjoint(name.lower().split("_"))]
    if noisy:
        reason = "it takes noise or a step of time beside the observation, as diffusion and flow matching do"
        remedy = "Use a policy that makes its action of the observation in one pass"
        raise UnsupportedLayerError(path, noisy[0], reason, remedy)


@dataclass(frozen=True, eq=False)
class Call:
    """Say how a program is called.

    Attributes:
        inputs: the observations' parameters, in order.
        states: by their parameter, what states start from; empty of programs that take none.
        places: where in the result each of their tensors comes back.
        axes: axes of one that observations have in front of their batch axis.
    """

    inputs: tuple[str, ...]
    states: Mapping[str, State] = field(default_factory=dict)
    places: tuple[Path, ...] = ()
    axes: int = 0

    def shaped(self, parts: Sequence[Any]) -> list[Any]:
        """Return observations (1, *shape) with all of their axes."""
        axes = (1,) * self.axes
        return [(part.reshaped if isinstance(part, Value) else part.reshape)((*axes, *part.shape)) for part in parts]

    def rest(self, result: Any) -> Any:
        """Return a result without the states."""
        return without(result, self.places) if self.places else result

    def after(self, result: Any) -> dict[str, State]:
        """Return the states in a result, as they go in again."""
        return after(self.states, result, self.places)

    def tell(self, name: str) -> None:
        """Warn of what is taken for a state."""
        if not self.states:
            return
        zero = not any(np.any(leaf) for _, leaf in leaves_of(dict(self.states)))
        start = "zeros" if zero else "what the program starts it from"
        warn(f"{name}: its state is {', '.join(self.states)}, which starts from {start}")


class Caller:
    """Find out how a program is called, by calling it on zeros.

    Attributes:
        inputs: the observations' parameters.
        states: parameters that are states, or by their names may be; the `optional` ones need not be given.
    """

    def __init__(
        self, needed: Sequence[str], optional: Sequence[str], shapes: Sequence[tuple[str, tuple[int, ...]]], given: Any,
        nested: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Sort the parameters.

        Args:
            needed: parameters that must be given; `optional` ones may be, and are called like states.
            shapes: the program's weights, by name.
            given: `observation_shape`, in which states may have theirs.
            nested: parameters that are tuples, lists or dictionaries.
        """
        refuse_denoising("forward", needed)
        self._shapes, self._found = shapes, dict[Any, Call]()
        self._hints = dict(given) if isinstance(given, Mapping) else {}
        states = [name for name in needed[1:] if names_state(name) or name in nested]
        if names_state(needed[0]) and not _OBSERVATIONS.isdisjoint(needed[1:]):
            states = [name for name in needed if names_state(name)]
        if not states and len(needed) > 1 and units_of(shapes):
            states = list(needed[1:])
        self.inputs = tuple(name for name in needed if name not in states)
        self.optional, self.states = tuple(optional), (*states, *optional)
        self.given, self._needed = given, tuple(needed)
        if isinstance(given, Mapping) and self.states:
            own = {name: shape for name, shape in self._hints.items() if name not in self.states}
            self.given = next(iter(own.values())) if len(own) == len(self.inputs) == 1 else own

    def run(self, call: Call, parts: Sequence[Array], states: Mapping[str, State]) -> Any:
        """Return what the program returns, its tensors torch's; the states not given are left to it."""
        raise NotImplementedError

    def first(self, method: str) -> Iterator[State]:
        """Yield what a method for a first state gives, if there is one."""
        raise NotImplementedError

    def held(self) -> Iterator[Array]:
        """Yield the tensors that the program holds."""
        raise NotImplementedError

    def call(self, parts: Mapping[str, tuple[int, ...]]) -> Call:
        """Return how the program is called with observations of these shapes.

        Raises:
            NoState: no state that is tried fits.
        """
        key = tuple(parts.items())
        if not self.states:
            return Call(self.inputs)
        if key not in self._found:
            self._found[key] = self._fitted(parts)
        return self._found[key]

    def without_states(self) -> "Caller":
        """Return the same of parameters that are observations, whatever they are called."""
        twin = copy.copy(self)
        twin.inputs, twin.states, twin.optional, twin.given = self._needed, (), (), self._hints or self.given
        return twin

    def decider(self, call: Call) -> "Decider":
        """Return what calls the program decision by decision."""
        return Decider(self, call)

    def _fitted(self, parts: Mapping[str, tuple[int, ...]]) -> Call:
        groups = (self.states, tuple(one for one in self.states if one not in self.optional))
        for axes in (0, 1):
            for names in filter(None, dict.fromkeys(groups)):
                blank = Call(self.inputs, axes=axes)
                given = blank.shaped([np.zeros((1, *parts[name]), np.float32) for name in self.inputs])
                tries = self._tries(names)
                found = fitting(tries, lambda states, blank=blank, given=given: self.run(blank, given, states))
                if found is not None:
                    call = replace(blank, states=found[0], places=found[1])
                    return self._started(call, given) if set(names) & set(self.optional) else call
        if set(self.states) <= set(self.optional):
            return Call(self.inputs)
        example = ", ".join(f"{name!r}: (…)" for name in (*self.inputs, *self.states))
        what = f"the shape of its state ({', '.join(self.states)}) is not known, or it does not return it"
        raise NoState(f"{what}; pass observation_shape={{{example}}}")

    def _tries(self, names: Sequence[str]) -> Iterator[dict[str, State]]:
        if set(names) <= set(self._hints):
            yield {name: _of_shape(self._hints[name]) for name in names}
        for method in FIRST_STATES:
            for state in self.first(method):
                for one in (state, mapped(state, lambda leaf: leaf[None])):
                    yield from _shared(one, names)
        yield from candidates(units_of(self._shapes), self._shapes, names)

    def _started(self, call: Call, observations: Sequence[Array]) -> Call:
        """Return the call with what states start from where they are not given.

        Raises:
            UnsupportedLayerError: that is neither zeros nor a tensor of the program's.
        """
        rng = np.random.default_rng(0)
        drawn = [rng.standard_normal(one.shape).astype(np.float32) for one in observations]
        needed = {name: state for name, state in call.states.items() if name not in self.optional}
        try:
            plain = self.run(call, drawn, needed)
        except Exception:  # it must be given, after all
            return call
        for start in (None, *(array for array in self.held() if array.size > 1)):
            try:
                states = mapped(dict(call.states), lambda leaf, start=start: leaf if start is None else np.array(
                    np.broadcast_to(start, leaf.shape), np.float32))  # fmt: skip
                made = self.run(call, drawn, states)
            except Exception:
                continue
            pairs = zip(leaves_of(plain), leaves_of(made), strict=True)
            if all(np.allclose(np.asarray(one), np.asarray(other), 1e-5, 1e-6) for (_, one), (_, other) in pairs):
                return replace(call, states=states)
        reason = "what its state starts from is neither zeros nor a tensor of its own"
        raise UnsupportedLayerError("forward", ", ".join(call.states), reason, "Let initial_state() return it")


class Decider:
    """Call a program decision by decision, with the states that it returned before."""

    def __init__(self, caller: Caller, call: Call) -> None:
        self._caller, self._call, self._states = caller, call, dict(call.states)

    def __call__(self, parts: Sequence[Array]) -> Any:
        """Return what it returns but the states, of observations (1, *shape); the states are kept."""
        result = self._caller.run(self._call, self._call.shaped(parts), self._states)
        self._states = self._call.after(result)
        return self._call.rest(result)


def _of_shape(shape: Any) -> State:
    """Return zeros of a shape, or of nested shapes."""
    if isinstance(shape, Mapping):
        return {key: _of_shape(one) for key, one in shape.items()}
    if isinstance(shape, tuple | list) and any(isinstance(one, tuple | list) for one in shape):
        return tuple(_of_shape(one) for one in shape)
    return np.zeros(tuple(np.atleast_1d(shape).tolist()), np.float32)


def _shared(state: State, names: Sequence[str]) -> list[dict[str, State]]:
    """Return a state as that of its parameters."""
    if len(names) == 1:
        return [{names[0]: state}, *([{names[0]: tuple(state)}] if isinstance(state, list) else [])]
    if isinstance(state, dict):
        return [state] if set(state) == set(names) else []
    fits = isinstance(state, tuple | list) and len(state) == len(names)
    return [dict(zip(names, state, strict=True))] if fits else []


def either(caller: Caller, read: Callable[[Any], Actor]) -> Actor:
    """Read a program with its states; where those are none, without.

    Raises:
        SourceError, UnsupportedLayerError: it is read neither way: why not without states,
            unless it returns several values.
    """
    if not caller.states:
        return read(caller)
    try:
        return read(caller)
    except NoState as first:
        try:
            return read(caller.without_states())
        except (SourceError, UnsupportedLayerError) as second:
            clearer = isinstance(second, UnsupportedLayerError) and "several values" not in str(second)
            raise (second if clearer else first) from None
