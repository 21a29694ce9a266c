"""A dataset as one contiguous array of rows, and its minibatches as a pure function of (seed, step).

Because a batch depends on nothing but the seed and the step's number, a resumed run draws exactly what an
uninterrupted one would have drawn, and no generator's state needs storing.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_policy.ann.layers import inner_bounds

if TYPE_CHECKING:
    from snn_policy.offline.transitions import Transitions

BLOCK_STEPS = 32
"""Gradient steps whose random numbers are drawn together."""
Floats = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Hold one minibatch of N transitions, float32; observations normalised, actions in units of their half-range.

    observation_action (N, observations + actions) · next_observation (N, observations) · reward, continues (N,):
    1 where the episode did not terminate · noise (N, actions): standard normal, of the target policy.
    """

    observation_action: Tensor
    next_observation: Tensor
    reward: Tensor
    continues: Tensor
    noise: Tensor


@dataclass(frozen=True, eq=False)
class PackedData:
    """Hold transitions as rows [observation · action · next observation · reward · continues], (N, width) float32.

    Attributes:
        mean, scale: of the observations, in their own shape: x = (observation − mean)/scale, scale = std + 1e-3
            (TD3+BC §5).
        low, high: of the action space, (actions,).
        fingerprint: SHA-256 of the transitions, to tell datasets apart.
    """

    rows: Tensor
    mean: Floats
    scale: Floats
    low: Floats
    high: Floats
    env_id: str
    name: str
    fingerprint: str

    @property
    def observations(self) -> int:
        return self.mean.size

    @property
    def actions(self) -> int:
        return len(self.low)

    @cached_property
    def _columns(self) -> tuple[slice, slice]:
        start = self.observations + self.actions
        return slice(0, start), slice(start, start + self.observations)

    def draw(self, number: int, seed: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return what the steps number·BLOCK_STEPS … +BLOCK_STEPS − 1 are made of: rows and noise, (steps, N, …)."""
        generator = torch.Generator().manual_seed(_mixed(seed, number))
        count = BLOCK_STEPS * batch_size
        indices = torch.randint(len(self.rows), (count,), generator=generator)
        noise = torch.randn((BLOCK_STEPS, batch_size, self.actions), generator=generator)
        return self.rows[indices].view(BLOCK_STEPS, batch_size, -1), noise

    def batches(self, chosen: Tensor, noise: Tensor) -> list[Batch]:
        """Return drawn rows and noise, on whatever device, as one batch per step; views of them."""
        state_action, following = self._columns
        return [
            Batch(rows[:, state_action], rows[:, following], rows[:, -2], rows[:, -1], noise[step])
            for step, rows in enumerate(chosen)
        ]


def _mixed(seed: int, number: int) -> int:
    """Return a seed for one block, unlike those of all other blocks and seeds."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def pack(transitions: "Transitions") -> PackedData:
    """Normalise and lay out a dataset; the action space's bounds are its environment's.

    Raises:
        ValueError: no environment known, or its spaces do not fit or are not bounded boxes.
    """
    if transitions.env_id is None:
        raise ValueError(f"dataset {transitions.name}: its environment is not known; give it with --env ID")
    low, high = _action_bounds(transitions)
    mean, scale = transitions.normalisation()
    count = len(transitions)
    columns = (
        ((transitions.observations - mean) / scale).reshape(count, -1),
        (transitions.actions - (high + low) / 2) / ((high - low) / 2),
        ((transitions.next_observations - mean) / scale).reshape(count, -1),
        transitions.rewards[:, None],
        1.0 - transitions.terminations[:, None],
    )
    rows = torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32))
    return PackedData(rows, mean, scale, low, high, transitions.env_id, transitions.name, _fingerprint(transitions))


def _fingerprint(transitions: "Transitions") -> str:
    digest = hashlib.sha256()
    for name in ("observations", "actions", "rewards", "next_observations", "terminations"):
        digest.update(np.ascontiguousarray(getattr(transitions, name)).data)
    return digest.hexdigest()


def _action_bounds(transitions: "Transitions") -> tuple[Floats, Floats]:
    from gymnasium import spaces

    from snn_policy.environments import make_environment

    assert transitions.env_id is not None
    env = make_environment(transitions.env_id)
    try:
        transitions.check_fits(env)
        space = env.action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            raise ValueError(f"environment {transitions.env_id}: TD3+BC needs bounded actions, got {space}")
        return inner_bounds(space.low, space.high)
    finally:
        env.close()
