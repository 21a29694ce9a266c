"""What both wrappers take from an environment: observations and rewards as NumPy arrays, checked, with their place."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from snn_policy.observations import ArrayForm, described, host_array, numbers_of, place, unusable
from snn_policy.protocol import Mask, Policy, joined


class Intake:
    """Carry what an environment's rows give to NumPy, and refuse what would otherwise be broadcast or averaged.

    Args:
        name: of the environment, for messages.
        shape: of one observation.
        rows: of a vector environment, whose arrays have them as first axis; None for a single environment.

    Attributes:
        form: of the arrays that the environment gave at its last reset, and therefore takes.
    """

    def __init__(self, name: str, shape: tuple[int, ...], rows: int | None = None) -> None:
        self._name, self._batch = name, () if rows is None else (rows,)
        self._one, self._shape = shape, (*self._batch, *shape)
        self._seeds: list[int | None] = [None] * (rows or 1)
        self.form = ArrayForm()

    def first(self, seeds: Sequence[int | None], obs: Any, rows: Mask | None = None) -> npt.NDArray[Any]:
        """Return (rows, *shape) observations after a reset with these seeds, of all rows or of the masked ones.

        Raises:
            ValueError: another shape or device, NaN or infinity.
        """
        begun = np.ones(len(self._seeds), np.bool_) if rows is None else rows
        self._seeds = [new if begins else old for new, old, begins in zip(seeds, self._seeds, begun, strict=True)]
        batch = self._observed(obs, np.zeros(len(begun), np.int64))
        self.form = ArrayForm(obs)
        return batch

    def following(
        self, obs: Any, rewards: Any, steps: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """Return (rows, *shape) observations and (rows,) rewards of one step, each row's `steps`-th of its episode.

        Raises:
            ValueError: another shape or device, NaN or infinity.
        """
        batch = self._observed(obs, steps)
        values = self._numbers(rewards, "reward").astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            row = int(wrong[0])
            raise ValueError(f"{self._place(row, steps)}: reward: {described(values[row])}")
        return batch, values

    def flags(self, values: Any, name: str) -> Mask:
        """Return (rows,) booleans of a vector environment, as an array of its own.

        Raises:
            ValueError: another shape or device.
        """
        return self._numbers(values, name).astype(np.bool_)

    def forget_seeds(self, rows: Mask) -> None:
        """Forget the seeds of rows in which episodes have begun without one."""
        self._seeds = [None if begun else seed for seed, begun in zip(self._seeds, rows, strict=True)]

    def _observed(self, obs: Any, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            values = numbers_of(joined(obs, self._one), self._shape, "observation")
        except ValueError as problem:
            place_of_all = f"environment {self._name}, all rows" if self._batch else self._place(0, steps)
            raise ValueError(f"{place_of_all}: {problem}") from None
        batch = values if self._batch else values[None]
        index = unusable(batch)
        if index is not None:
            row, *where = index
            number = described(batch[index])
            raise ValueError(f"{self._place(row, steps)}: observation: {number} at index {tuple(where)}")
        return batch

    def _numbers(self, values: Any, name: str) -> npt.NDArray[Any]:
        """Return (rows,) one number per row; a single environment may give it as an array of one entry."""
        named = f"environment {self._name}: {name}"
        array = host_array(values, named)
        return numbers_of(array if self._batch else array.reshape(-1), (len(self._seeds),), named)

    def _place(self, row: int, steps: npt.NDArray[Any]) -> str:
        return place(self._name, row, self._seeds[row], int(steps[row]))


def check_kinds(wrapper: str, env: Any, policy: Any, kind: type) -> None:
    """Refuse an environment that is none of this kind: `gym.Env` or `VectorEnv`.

    Raises:
        TypeError: naming the way out.
    """
    if isinstance(env, kind):
        return
    remedy = ""
    if isinstance(env, Policy) and not isinstance(policy, Policy):
        remedy = "; the arguments are swapped"
    elif isinstance(env, VectorEnv):
        remedy = "; for environments side by side use SpikingPolicyVectorEval"
    elif isinstance(env, gym.Env):
        remedy = "; a single one takes SpikingPolicyEval, a simulator of several rows needs a VectorEnv around it"
    raise TypeError(f"{wrapper}(env, policy): expected a gymnasium {kind.__name__}, got {type(env).__name__}{remedy}")
