"""Recorded transitions in memory: what offline training learns from, whatever file they were read from.

Rows follow one another in time; an episode ends after a row that terminated or was truncated. Where a recording
was cut, its last row counts as truncated, so rows of different episodes never appear to be neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from snn_policy.checks import frozen_array
from snn_policy.protocol import LARGEST_OBSERVATION, FloatArray, Mask, Policy, unmasked

STD_FLOOR = 1e-3
"""Added to every standard deviation, as TD3+BC does (Fujimoto & Gu 2021, appendix A)."""
FLOAT_ARRAYS = {"observations": None, "actions": 2, "rewards": 1, "next_observations": None}
FLAG_ARRAYS = ("terminations", "truncations")


@dataclass(frozen=True, eq=False)
class Transitions:
    """Hold N transitions (o, a, r, o') in their order, as read-only arrays.

    Attributes:
        observations: (N, *observation_shape) float32.
        actions: (N, act_dim) float32, as executed.
        rewards: (N,) float32, of the action.
        next_observations: (N, *observation_shape) float32, what the action led to, also at an episode's end.
        terminations: (N,) bool, the episode ended in a state of no further value.
        truncations: (N,) bool, the episode was cut (time limit, end of the recording).
        env_id: the environment they come from, where known.
        quality: expert, medium, medium-replay, medium-expert, or another text; None where unknown.
        name: for messages and tables.

    Raises:
        ValueError: no rows; lengths or shapes that differ; NaN, infinity, absurd values; flags that are not boolean.
    """

    observations: FloatArray
    actions: FloatArray
    rewards: FloatArray
    next_observations: FloatArray
    terminations: Mask
    truncations: Mask
    env_id: str | None = None
    quality: str | None = None
    name: str = "dataset"

    def __post_init__(self) -> None:
        for name, axes in FLOAT_ARRAYS.items():
            object.__setattr__(self, name, _numbers(getattr(self, name), name, axes))
        for name in FLAG_ARRAYS:
            object.__setattr__(self, name, _flags(getattr(self, name), name))
        self._check_shapes()

    def _check_shapes(self) -> None:
        rows = len(self.observations)
        if rows == 0:
            raise ValueError("observations: no rows; a dataset needs at least one transition")
        for name in (*FLOAT_ARRAYS, *FLAG_ARRAYS):
            if (length := len(getattr(self, name))) != rows:
                raise ValueError(f"{name}: {length} rows, but observations has {rows}; give one row per transition")
        if self.observations.ndim < 2 or 0 in self.observations.shape:
            raise ValueError(f"observations: expected (N, *shape), got shape {self.observations.shape}")
        if self.actions.shape[1] == 0:
            raise ValueError(f"actions: expected (N, act_dim), got shape {self.actions.shape}")
        if self.next_observations.shape != self.observations.shape:
            raise ValueError(
                f"next_observations: shape {self.next_observations.shape}, but observations has "
                f"{self.observations.shape}; both hold one observation per row"
            )

    def __len__(self) -> int:
        return len(self.rewards)

    def __getitem__(self, rows: slice) -> "Transitions":
        """Return consecutive rows; where the cut falls inside an episode, its last row is truncated there.

        Raises:
            ValueError: no rows, or a step other than 1.
        """
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise ValueError(f"rows {rows}: expected a slice of consecutive rows, such as data[:1000]")
        start, stop, _ = rows.indices(len(self))
        if start >= stop:
            raise ValueError(f"rows {rows.start}:{rows.stop}: none of the {len(self)} rows of {self.name}")
        part = {name: getattr(self, name)[start:stop] for name in (*FLOAT_ARRAYS, *FLAG_ARRAYS)}
        return replace(self, **part).ended()

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Return one observation's shape."""
        return self.observations.shape[1:]

    @property
    def action_dim(self) -> int:
        return self.actions.shape[1]

    def normalisation(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation + 1e-3 of the observations, each (*observation_shape,), as in TD3+BC."""
        mean = self.observations.mean(axis=0, dtype=np.float64)
        std = self.observations.std(axis=0, dtype=np.float64) + STD_FLOOR
        return mean.astype(np.float32), std.astype(np.float32)

    def ended(self) -> "Transitions":
        """Return itself, with the last row marked as truncated where the recording stops inside an episode."""
        if self.terminations[-1] or self.truncations[-1]:
            return self
        truncations = self.truncations.copy()
        truncations[-1] = True
        return replace(self, truncations=truncations)

    def cuts(self) -> npt.NDArray[np.int64]:
        """Return the rows inside an episode that the following row does not continue, and an unfinished last row."""
        inner = tuple(range(1, self.observations.ndim))
        follows = (self.next_observations[:-1] == self.observations[1:]).all(axis=inner)
        return np.flatnonzero(~np.append(follows, False) & ~self.terminations & ~self.truncations)

    def with_cuts(self) -> "Transitions":
        """Return itself, with these rows marked as truncated."""
        truncations = self.truncations.copy()
        truncations[self.cuts()] = True
        return replace(self, truncations=truncations)

    def episodes(self) -> list[slice]:
        """Return the rows of each episode, in order; the last may be unfinished."""
        ends = np.flatnonzero(self.terminations | self.truncations) + 1
        if not len(ends) or ends[-1] != len(self):
            ends = np.append(ends, len(self))
        return [slice(start, stop) for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    def episode_returns(self) -> npt.NDArray[np.float64]:
        """Return the undiscounted sum of rewards of each of `episodes()`."""
        starts = [rows.start for rows in self.episodes()]
        return np.add.reduceat(self.rewards.astype(np.float64), starts)

    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """Return the number of rows of each of `episodes()`."""
        return np.array([rows.stop - rows.start for rows in self.episodes()], np.int64)

    def check_fits(self, target: Policy | gym.Env | str) -> None:
        """Check that these are transitions of an environment (itself or its id), or of a policy's spaces.

        Raises:
            ValueError: another observation or action shape, actions outside the bounds, discrete actions.
        """
        if isinstance(target, str):
            from snn_policy.environments import make_environment

            env = make_environment(target)
            try:
                return self.check_fits(env)
            finally:
                env.close()
        what, observed, low, high = _spaces(target)
        if observed != self.observation_shape:
            raise ValueError(
                f"{self.name} does not fit {what}: its observations have shape {self.observation_shape}, "
                f"expected {observed}; use the dataset of this task and version"
            )
        if low.shape != (self.action_dim,):
            raise ValueError(
                f"{self.name} does not fit {what}: its actions have shape ({self.action_dim},), expected {low.shape}"
            )
        self._check_bounds(what, low, high)

    def _check_bounds(self, what: str, low: npt.NDArray[Any], high: npt.NDArray[Any]) -> None:
        slack = 1e-4 * np.where(np.isfinite(high - low), high - low, 1.0)
        outside = ((self.actions < low - slack) | (self.actions > high + slack)).any(axis=1)
        if outside.any():
            row = int(np.argmax(outside))
            raise ValueError(
                f"{self.name} does not fit {what}: actions[{row}] is outside the bounds "
                f"[{low.min():.6g}, {high.max():.6g}], as are {int(outside.sum())} rows; "
                "rescale the actions to the environment's own range"
            )


def concatenate(parts: Sequence[Transitions], name: str, quality: str | None = None) -> Transitions:
    """Return one dataset after the other, no episode reaching from one into the next.

    Raises:
        ValueError: no parts, or of different shapes or environments.
    """
    if not parts:
        raise ValueError("datasets to join: none were given")
    first = parts[0]
    for part in parts[1:]:
        ours, theirs = ((dataset.observation_shape, dataset.action_dim, dataset.env_id) for dataset in (first, part))
        if ours != theirs:
            raise ValueError(f"{part.name} cannot be joined to {first.name}: {theirs} is not {ours}")
    ended = [part.ended() for part in parts]
    arrays = {name: np.concatenate([getattr(part, name) for part in ended]) for name in (*FLOAT_ARRAYS, *FLAG_ARRAYS)}
    return Transitions(**arrays, env_id=first.env_id, quality=quality, name=name)


def _numbers(values: Any, name: str, axes: int | None) -> FloatArray:
    array = np.asarray(unmasked(values, name))
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}; store it as float32")
    if axes is not None and array.ndim != axes:
        raise ValueError(f"{name}: expected {axes} axes, got shape {array.shape}")
    if array.ndim == 0:
        raise ValueError(f"{name}: expected one row per transition, got a single number")
    fits = np.isfinite(array) & (np.abs(array) <= LARGEST_OBSERVATION)
    if not fits.all():
        row = int(np.argwhere(~fits)[0][0])
        raise ValueError(f"{name}[{row}]: holds NaN, infinity or a value beyond 1e30; remove the row's episode")
    return frozen_array(array, name)


def _flags(values: Any, name: str) -> Mask:
    array = np.asarray(unmasked(values, name))
    binary = array.dtype.kind in "biuf" and bool(((array == 0) | (array == 1)).all())
    if array.ndim != 1 or not binary:
        raise ValueError(f"{name}: expected one boolean per transition, got {array.dtype} of shape {array.shape}")
    flags = array.astype(np.bool_)
    flags.flags.writeable = False
    return flags


def _spaces(target: Policy | gym.Env) -> tuple[str, tuple[int, ...] | None, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what it is, its observation shape (None where observations are not arrays), and its action bounds."""
    if isinstance(target, gym.Env):
        from snn_policy.observations import environment_name

        what, space = f"environment {environment_name(target)}", target.action_space
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(f"{what}: its actions are {type(space).__name__}; datasets hold continuous actions only")
        return what, target.observation_space.shape, space.low, space.high
    if target.discrete:
        raise ValueError("the policy chooses among discrete actions; datasets hold continuous actions only")
    return "the policy", target.observation_shape, target.low, target.high
