"""What every policy of this package offers: the ANN (`Actor`), its spiking conversion, its exported graph.

Also the records that every decision leaves behind, and the checks that every observation passes.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from snn_policy.energy import nanojoules

LARGEST_OBSERVATION = 1e30
"""Beyond it float32 sums overflow inside the network, and a membrane that is not finite would never recover."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Shaped(Protocol):
    """What goes into a policy and what comes out.

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
    """Maps observations to actions and owns whatever it must remember between two decisions."""

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
class Decision:
    """What one decision cost; every array's first axis is the environment row, also for a single observation.

    Attributes:
        spikes: (rows, layers) spikes emitted per layer; for an ANN, its non-zero activations.
        synaptic_operations: (rows,) accumulations caused by spikes: Σ spikes · fan-out.
        multiply_accumulates: (rows,) multiplications left: a spiking network's analog first layer,
            an ANN's products with non-zero inputs.
        iterations: (rows,) iterations of spike calibration, 0 without it.
        error_spikes: (rows,) spikes by which the neurons' counts differ from the quantised ANN's, rounded; counted
            where spike calibration is adaptive, else 0.
    """

    spikes: IntArray
    synaptic_operations: IntArray
    multiply_accumulates: IntArray
    iterations: IntArray
    error_spikes: IntArray

    @property
    def energy(self) -> npt.NDArray[np.float64]:
        """(rows,) nanojoules by the convention of `snn_policy.energy`."""
        return nanojoules(self.multiply_accumulates, self.synaptic_operations)


@dataclass(eq=False)
class Counters:
    """Sums of `Decision`s per environment row since that row's last reset; arrays as there."""

    decisions: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    spikes: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    synaptic_operations: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    multiply_accumulates: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def zeros(cls, rows: int, layers: int) -> "Counters":
        return cls(*(np.zeros(shape, np.int64) for shape in (rows, (rows, layers), rows, rows)))

    @property
    def energy(self) -> npt.NDArray[np.float64]:
        """(rows,) nanojoules by the convention of `snn_policy.energy`."""
        return nanojoules(self.multiply_accumulates, self.synaptic_operations)

    def add(self, decision: Decision, rows: Mask | slice = slice(None)) -> None:
        """Count a decision's records for the given rows (a boolean mask or a slice)."""
        self.decisions[rows] += 1
        self.spikes[rows] += decision.spikes[rows]
        self.synaptic_operations[rows] += decision.synaptic_operations[rows]
        self.multiply_accumulates[rows] += decision.multiply_accumulates[rows]

    def clear(self, mask: Mask) -> None:
        """Start the given rows again from zero."""
        for each in fields(self):
            getattr(self, each.name)[mask] = 0

    def restore(self, saved: "Counters") -> None:
        """Take over the sums of as many rows, in place."""
        for each in fields(self):
            getattr(self, each.name)[...] = getattr(saved, each.name)

    def copy(self) -> "Counters":
        return Counters(*(getattr(self, each.name).copy() for each in fields(self)))


def as_batch(obs: npt.ArrayLike, shape: tuple[int, ...], name: str = "observation") -> tuple[FloatArray, bool]:
    """Check one observation (*shape) or a batch (N, *shape); give (N, *shape) float32 and whether it was a batch.

    Raises:
        ValueError: another shape, an empty batch, not numbers, NaN, infinity or beyond `LARGEST_OBSERVATION`
            (naming where).
    """
    try:
        values = np.asarray(obs)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise ValueError(f"{name}: not an array of numbers ({problem})") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers of shape {shape} or (N, *{shape}), got dtype {values.dtype}")
    batched = values.ndim == len(shape) + 1
    if values.shape[batched:] != shape or values.ndim < len(shape):
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
    """What is probably wrong with images of another shape than (channels, height, width), where that is clear."""
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
        ValueError: not boolean, or another shape.
    """
    values = np.asarray(mask)
    fits = values.size > 0 if rows is None else values.size == rows
    if values.dtype != np.bool_ or values.ndim != 1 or not fits:
        raise ValueError(
            f"{name}: expected booleans of shape ({'N' if rows is None else rows},), got {values.dtype} {values.shape}"
        )
    return values


def unbatch(actions: npt.NDArray[Any], batched: bool) -> npt.NDArray[Any]:
    """Drop the batch axis again where the observation had none."""
    return actions if batched else actions[0]
