"""What an exported graph says about itself: JSON in its `metadata_props`, all that its runner needs to know.

Read from files that anyone may have made: every field is checked before it is used.
"""

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.checks import whole
from snn_policy.errors import SourceError
from snn_policy.exporting.observation_inputs import KINDS, Inputs, Keys, checked_keys
from snn_policy.protocol import KeyedShape

FORMAT, FORMAT_VERSION = "snn-policy-graph", 1
METADATA_KEY, RATE_KEY = "snn_policy", "update_rate"
MOST_METADATA, MOST_ELEMENTS, MOST_NAMES = 2**22, 2**31 - 1, 4096
GRAPHS = ("decision", "step")
OPERATIONS, EVENTS, CALIBRATION_COSTS = ("synaptic_operations",), ("events",), ("iterations", "error_spikes")
OF_DICTIONARIES = ("observation_keys", "inputs")
"""Fields that only graphs of policies have whose observations are dictionaries."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Description:
    """Describe one graph of a spiking policy.

    Attributes:
        graph: "decision" (all timesteps in one call) or "step" (one timestep).
        observation_shape, action_shape: of one row; a single discrete action is a scalar, shape ().
        low, high: bounds of the action, None for an infinite one; of a discrete action the single numbers.
        timesteps: T of one decision.
        neuron, coding, alpha: how it was converted; coding None for sigma-delta, alpha where it carries no residual.
        memories: (name, width) of every memory, float32 (batch, width).
        batch: the only number of rows that it takes, None for any.
        layers: names of the layers whose spikes are counted.
        counted: names of the columns of the output `counts`; empty where it has none. Without `events`, as in graphs of
            earlier versions and of single timesteps of SNM and MT neurons, these are unknown.
        multiply_accumulates: multiplications of one decision.
        iterations: of spike calibration, at least; 0 without it.
        name, env_id: of the actor; control_period: seconds per decision, where known.
        versions: of the packages it was made with.
        observation_keys: (key, shape) of the parts of an observation that is a dictionary, in the order in which they
            are joined; None where it is an array.
        inputs: "joined", one input `obs`; "by-key", one input `obs.KEY` of every part.
    """

    graph: str
    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    discrete: bool
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    timesteps: int
    neuron: str
    coding: str | None
    alpha: tuple[float, ...] | None
    memories: tuple[tuple[str, int], ...]
    batch: int | None
    layers: tuple[str, ...]
    counted: tuple[str, ...]
    multiply_accumulates: int
    iterations: int
    name: str
    env_id: str | None
    control_period: float | None
    versions: dict[str, str]
    observation_keys: Keys | None = None
    inputs: Inputs = "joined"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the observation's shape, with its keys where it has some."""
        return self.observation_shape if self.observation_keys is None else KeyedShape(dict(self.observation_keys))

    def bounds(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return `low` and `high` as the policy's arrays."""
        if self.discrete:
            both = (np.array(side, np.int64).reshape(self.action_shape) for side in (self.low, self.high))
            low, high = both
            return low, high
        infinite = -np.inf, np.inf
        low, high = (np.array([edge if end is None else end for end in side], np.float32).reshape(self.action_shape)
                     for side, edge in zip((self.low, self.high), infinite, strict=True))  # fmt: skip
        return low, high

    def properties(self) -> dict[str, str]:
        """Return it as a model's `metadata_props`."""
        memories = [{"name": name, "shape": [width], "dtype": "float32"} for name, width in self.memories]
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self), "memories": memories}
        for name in OF_DICTIONARIES if self.observation_keys is None else ():
            del document[name]
        if self.control_period is None:
            return {METADATA_KEY: json.dumps(document, sort_keys=True, allow_nan=False)}
        document[RATE_KEY] = 1 / self.control_period
        return {METADATA_KEY: json.dumps(document, sort_keys=True, allow_nan=False), RATE_KEY: repr(document[RATE_KEY])}


def read_description(text: str | None) -> Description:
    """Return the description in a model's metadata.

    Raises:
        SourceError: none, another format, or fields that are missing or no sense.
    """
    if text is None:
        raise SourceError("its metadata has no description of a spiking policy; export the policy again")
    try:
        if len(text) > MOST_METADATA:
            raise ValueError(f"{len(text)} characters")
        document = json.loads(text)
        version = document["format_version"]
        if document["format"] != FORMAT or not whole(version, FORMAT_VERSION, FORMAT_VERSION):
            raise ValueError(f"format {document['format']!r} {version!r}, expected {FORMAT!r} {FORMAT_VERSION}")
        names = {field.name for field in fields(Description)}
        if "observation_keys" not in document:
            names -= set(OF_DICTIONARIES)
        return _checked(Description(**{name: _frozen(document[name]) for name in names - {"memories"}},
                                    memories=tuple(map(_memory, document["memories"]))))  # fmt: skip
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError, OverflowError) as problem:
        raise SourceError(f"its description is damaged ({type(problem).__name__}: {problem})") from None


def _memory(entry: dict[str, Any]) -> tuple[str, int]:
    if entry["dtype"] != "float32":
        raise ValueError(f"memory {entry['name']!r}: dtype {entry['dtype']!r}")
    (width,) = entry["shape"]
    return entry["name"], width


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _checked(given: Description) -> Description:
    _require(given.graph in GRAPHS, f"graph {given.graph!r}")
    for name in ("observation_shape", "action_shape"):
        shape = getattr(given, name)
        fits = isinstance(shape, tuple) and len(shape) <= 8 and all(whole(length, 1, MOST_ELEMENTS) for length in shape)
        _require(fits and np.prod(shape, dtype=object) <= MOST_ELEMENTS, f"{name} {shape!r}")
    given = _with_keys(given)
    dimensions = (0, 1) if given.discrete else (1,)
    _require(isinstance(given.discrete, bool) and len(given.action_shape) in dimensions, "action_shape")
    actions = int(np.prod(given.action_shape, dtype=np.int64))
    for name in ("low", "high"):
        side = getattr(given, name)
        fits = isinstance(side, tuple) and len(side) == actions
        _require(fits and all(_is_number(bound) or (bound is None and not given.discrete) for bound in side), name)
    _require(whole(given.timesteps, 1, 2**20), f"timesteps {given.timesteps!r}")
    _require(given.batch is None or whole(given.batch, 1, MOST_ELEMENTS), f"batch {given.batch!r}")
    _check_names([name for name, _ in given.memories], "memories")
    _require(all(whole(width, 0, MOST_ELEMENTS) for _, width in given.memories), "memories")
    _check_names(given.layers, "layers", least=0)
    _check_names(given.counted, "counted", least=0)
    costs = [(*OPERATIONS, *events, *more) for events in ((), EVENTS) for more in ((), CALIBRATION_COSTS)]
    _require(given.counted in [(), *((*given.layers, *names) for names in costs)], f"counted {given.counted!r}")
    for name in ("multiply_accumulates", "iterations"):
        _require(whole(getattr(given, name), 0, 2**62), f"{name} {getattr(given, name)!r}")
    for name in ("name", "neuron", "env_id", "coding"):
        value = getattr(given, name)
        _require(isinstance(value, str) or (name in ("env_id", "coding") and value is None), f"{name} {value!r}")
    _require(given.alpha is None or all(map(_is_number, given.alpha)), f"alpha {given.alpha!r}")
    _require(all(isinstance(version, str) for version in given.versions.values()), "versions")
    _require(given.env_id is None or ":" not in given.env_id, f"env_id {given.env_id!r}: would import a module")
    period = given.control_period
    _require(period is None or (_is_number(period) and 0 < period < 1e9), f"control_period {period!r}")
    return given


def _with_keys(given: Description) -> Description:
    """Return it with its observation's keys checked."""
    _require(given.inputs in KINDS, f"inputs {given.inputs!r}")
    if given.observation_keys is None:
        _require(given.inputs == "joined", "inputs by key, without observation_keys")
        return given
    _require(len(given.observation_shape) == 1 and isinstance(given.observation_keys, tuple), "observation_keys")
    keys = checked_keys(given.observation_keys, given.observation_shape[0], MOST_NAMES)
    return replace(given, observation_keys=keys)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _check_names(names: Any, what: str, least: int = 1) -> None:
    fits = least <= len(names) <= MOST_NAMES and len(set(names)) == len(names)
    _require(fits and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names), what)


def _require(condition: Any, what: str) -> None:
    if not condition:
        raise ValueError(what)
