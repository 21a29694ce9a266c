"""What every policy of this package offers: the ANN (`Actor`), its spiking conversion, its exported graph.

Also the records that every decision leaves behind, and the checks that every observation passes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from snn_policy.energy import nanojoules

LARGEST_OBSERVATION = 1e30
"""Beyond it float32 sums overflow inside the network, and a membrane that is not finite would never recover."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Array = Any
"""An array of any library: NumPy, torch, or `snn_policy.exporting.tracing`'s record of operations; the docstring has
the shape. The libraries share no type; an array that is NumPy's in every case is an `NDArray`."""


class Shaped(Protocol):
    """Say what goes into a policy and what comes out.

    `observation_shape` is one observation's shape; `low` and `high` bound the action, shape `action_shape`
    (a discrete action is a scalar, shape `()`); `timesteps` counts the simulation steps of one decision.
    """

    @property
    def observation_shape(self) -> tuple[int, ...]: ...
    @property
    def action_shape(self) -> tuple[int, ...]: ...
    @property
    def discrete(self) -> bool: ...
    @property
    def low(self) -> npt.NDArray[Any]: ...
    @property
    def high(self) -> npt.NDArray[Any]: ...
    @property
    def timesteps(self) -> int: ...
    def initial_state(self, n: int) -> Any: ...


@runtime_checkable
class Policy(Shaped, Protocol):
    """Map observations to actions and own whatever must be kept between two decisions."""

    @property
    def last_decision(self) -> "Decision | None": ...
    @property
    def counters(self) -> "Counters": ...

    def reset(
        self, mask: npt.ArrayLike | None = None, *, num_envs: int | None = None, seed: int | None = None
    ) -> None: ...
    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]: ...
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[Any], Any]: ...
    def step(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any]: ...


@dataclass(frozen=True, eq=False)
class Costs:
    """Record what decisions cost: the one record of it, of a single decision, of sums and of averages.

    Arrays, first axis the environment row, also for a single row; of a `total` over rows without that axis.

    Attributes:
        spikes: (rows, layers) spikes emitted per layer; for an ANN, its non-zero activations.
        synaptic_operations: (rows,) accumulations caused by spikes: Σ spikes · fan-out.
        multiply_accumulates: (rows,) multiplications left: a spiking network's analog first layer,
            an ANN's products with non-zero inputs.
        iterations: (rows,) iterations of spike calibration, 0 without it.
        error_spikes: (rows,) spikes by which the neurons' counts differ from the quantised ANN's, rounded; counted
            where spike calibration is adaptive, else 0.
        events: (rows,) weights fetched: Σ fan-out of the neurons that spiked at all in the decision, however often; for
            an ANN, its `multiply_accumulates`. None where it is not known.
    """

    spikes: IntArray
    synaptic_operations: IntArray
    multiply_accumulates: IntArray
    iterations: IntArray
    error_spikes: IntArray
    events: IntArray | None = None

    @classmethod
    def zeros(cls, rows: int = 0, layers: int = 0) -> Self:
        """Return no costs of that many rows."""
        return cls(np.zeros((rows, layers), np.int64), *(np.zeros(rows, np.int64) for _ in range(5)))

    @property
    def energy(self) -> npt.NDArray[np.float64]:
        """Return (rows,) nanojoules by the convention of `snn_policy.energy`."""
        return nanojoules(self.multiply_accumulates, self.synaptic_operations)

    def named(self) -> dict[str, Any]:
        """Return every record that is known, by name."""
        records = {record.name: getattr(self, record.name) for record in fields(Costs)}
        return {name: values for name, values in records.items() if values is not None}

    def __add__(self, other: "Costs") -> "Costs":
        """Return the sums, row by row; what one of the two does not know is unknown."""
        mine, theirs = self.named(), other.named()
        return Costs(**{name: values + theirs[name] for name, values in mine.items() if name in theirs})

    def masked(self, rows: Mask) -> "Costs":
        """Return the costs of the rows in the mask (rows,), zeros in the others."""
        return self._each(lambda values: values * _beside(rows, values))

    def total(self) -> "Costs":
        """Return the sums over all rows: spikes (layers,), all else single numbers."""
        return self._each(lambda values: np.sum(values, axis=0))

    def mean(self, decisions: Array) -> "Costs":
        """Return averages, float64, over so many decisions: a number, or one per row, (rows,); of none, zeros."""
        counts = np.maximum(decisions, 1)
        return self._each(lambda values: values / (_beside(counts, values) if counts.ndim else counts))

    def _each(self, function: Callable[[Array], Array]) -> "Costs":
        return Costs(**{name: function(values) for name, values in self.named().items()})


class Decision(Costs):
    """Record what one decision cost: `Costs`."""


@dataclass(frozen=True, eq=False)
class Counters(Costs):
    """Sum `Decision`s per environment row since that row's last reset; arrays as there, updated in place.

    Attributes:
        decisions: (rows,) how many.
    """

    decisions: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def zeros(cls, rows: int = 0, layers: int = 0) -> Self:
        return cls(**Costs.zeros(rows, layers).named(), decisions=np.zeros(rows, np.int64))

    def add(self, costs: Costs, rows: Mask | slice = slice(None), decisions: int = 1) -> None:
        """Count the costs of one decision, or of so many, for the given rows (a boolean mask or a slice)."""
        self._know(costs)
        self.decisions[rows] += decisions
        for name, values in self.named().items():
            values[rows] += getattr(costs, name)[rows]

    def clear(self, mask: Mask) -> None:
        """Start the given rows again from zero."""
        for values in (self.decisions, *self.named().values()):
            values[mask] = 0

    def restore(self, saved: "Counters") -> None:
        """Take over the sums of as many rows, in place."""
        self._know(saved)
        self.decisions[...] = saved.decisions
        for name, values in self.named().items():
            values[...] = getattr(saved, name)

    def copy(self) -> "Counters":
        copies = {name: values.copy() for name, values in self.named().items()}
        return Counters(**copies, decisions=self.decisions.copy())

    def _know(self, added: Costs) -> None:
        """Forget the events where those to be added are unknown: the sum is, too."""
        if added.events is None:
            object.__setattr__(self, "events", None)


def _beside(rows: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (rows,) with as many axes as the values."""
    return rows.reshape(-1, *[1] * (np.ndim(values) - 1))


class KeyedShape(tuple[int, ...]):
    """Describe the shape (n,) of observations that are dictionaries of arrays, flattened and joined by their keys.

    Attributes:
        parts: key → the shape of one array under it.
    """

    parts: dict[str, tuple[int, ...]]

    def __new__(cls, parts: Mapping[str, tuple[int, ...]]) -> Self:
        made = super().__new__(cls, (sum(math.prod(shape) for shape in parts.values()),))
        made.parts = {str(key): tuple(shape) for key, shape in parts.items()}
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyedShape, (self.parts,)

    def joined(self, obs: Mapping[str, Any], name: str = "observation") -> npt.NDArray[Any]:
        """Return one observation (n,) or a batch (N, n) of the arrays under the keys.

        Raises:
            ValueError: a key is missing or unknown, or masked, or an array has another shape than the others.
        """
        if set(obs) != set(self.parts):
            raise ValueError(f"{name}: expected the keys {', '.join(self.parts)}, got {', '.join(map(str, obs))}")
        rows: list[npt.NDArray[Any]] = []
        for key, shape in self.parts.items():
            held = obs[key]
            unmasked(held, f"{name} {key!r}")
            values = np.asarray(held.detach().cpu() if hasattr(held, "detach") else held)
            if values.shape[max(0, values.ndim - len(shape)) :] != shape or values.ndim > len(shape) + 1:
                raise ValueError(f"{name} {key!r}: expected shape {shape} or (N, *{shape}), got {values.shape}")
            rows.append(values.reshape((*values.shape[: values.ndim - len(shape)], -1)))
        if len({row.shape[:-1] for row in rows}) > 1:
            raise ValueError(f"{name}: its arrays have batches of {', '.join(str(row.shape[:-1]) for row in rows)}")
        return np.concatenate(rows, axis=-1)


def joined(obs: Any, shape: tuple[int, ...], name: str = "observation") -> Any:
    """Return a dictionary of observations as one array, where the shape has keys; anything else as it is."""
    return shape.joined(obs, name) if isinstance(shape, KeyedShape) and isinstance(obs, Mapping) else obs


def unmasked(values: Any, name: str) -> Any:
    """Return an array, or lists of them, as it is.

    Raises:
        ValueError: values are masked: NumPy takes whatever lies under the mask for them.
    """
    masked = _masked(values)
    if masked:
        how = "fill them in, such as with array.filled(value), or leave their rows out"
        raise ValueError(f"{name}: values masked as missing, {masked} of them; {how}")
    return values


def _masked(values: Any) -> int:
    """Return how many values are masked, by `np.ma` or by any array that has a mask."""
    if isinstance(values, list | tuple):
        return sum(map(_masked, values))
    if type(values) is np.ndarray or not isinstance(values, np.ndarray):
        return 0
    mask = np.asarray(getattr(values, "mask", False))
    return int(np.count_nonzero(mask)) if mask.dtype == np.bool_ else 0


def as_batch(obs: npt.ArrayLike, shape: tuple[int, ...], name: str = "observation") -> tuple[FloatArray, bool]:
    """Check one observation (*shape) or a batch (N, *shape); give (N, *shape) float32 and whether it was a batch.

    Raises:
        ValueError: another shape, an empty batch, not numbers, masked, NaN, infinity or beyond `LARGEST_OBSERVATION`
            (naming where).
    """
    unmasked(obs, name)
    try:
        values = np.asarray(joined(obs, shape, name))
    except (TypeError, ValueError, RuntimeError) as problem:
        if isinstance(obs, Mapping):
            raise
        raise ValueError(f"{name}: not an array of numbers ({problem})") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers of shape {shape} or (N, *{shape}), got dtype {values.dtype}")
    batched = values.ndim == len(shape) + 1
    if values.shape[batched:] != tuple(shape) or values.ndim < len(shape):
        hint = _image_hint(values.shape, shape)
        raise ValueError(f"{name}: expected shape {shape} or (N, *{shape}), got {values.shape}{hint}")
    with np.errstate(over="ignore"):
        batch = values.astype(np.float32, copy=False) if batched else values.astype(np.float32)[None]
    if not batch.shape[0]:
        raise ValueError(f"{name}: the batch is empty, shape {values.shape}")
    usable = abs(batch) <= LARGEST_OBSERVATION  # false for NaN
    if not usable.all():
        where = tuple(int(i) for i in np.argwhere(~usable)[0][0 if batched else 1 :])
        raise ValueError(f"{name}: not finite, or beyond ±{LARGEST_OBSERVATION:.0e}, at index {where}: {values[where]}")
    return batch, batched


def _image_hint(given: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return what is probably wrong with images of another shape than (channels, height, width), if clear."""
    if len(shape) != 3 or len(given) not in (3, 4):
        return ""
    for image, order in ((given[-3:], ""), ((given[-1], *given[-3:-1]), f"; images must be channel-first, {shape}")):
        frames = shape[0] // max(image[0], 1)
        if image[1:] == shape[1:] and image[0] * frames == shape[0]:
            return order + (f"; {frames} frames must be stacked along the channels" if frames > 1 else "")
    if given[-3] == shape[0]:
        return f"; images must be resized to {shape[1]} × {shape[2]} pixels"
    return ""


def as_mask(mask: npt.ArrayLike, rows: int | None, name: str = "mask") -> Mask:
    """Check a boolean mask of shape (rows,); `rows=None` accepts any length.

    Raises:
        ValueError: not boolean, masked, or another shape.
    """
    values = np.asarray(unmasked(mask, name))
    fits = values.size > 0 if rows is None else values.size == rows
    if values.dtype != np.bool_ or values.ndim != 1 or not fits:
        raise ValueError(
            f"{name}: expected booleans of shape ({'N' if rows is None else rows},), got {values.dtype} {values.shape}"
        )
    return values


def unbatch(actions: npt.NDArray[Any], batched: bool) -> npt.NDArray[Any]:
    """Drop the batch axis again where the observation had none."""
    return actions if batched else actions[0]
