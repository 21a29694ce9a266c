"""A synthetic environment whose observations say where they come from, and a policy that remembers all it saw.

Together they make every off-by-one visible: from an observation alone follows which observations its episode has
had so far, and so the state that a policy must be in.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.convert import convert
from snn_policy.protocol import Counters, Decision, Policy, as_batch, as_mask, unbatch

FEATURES = 4
DEFAULT_LENGTHS = (3, 1, 5, 2, 4)


def marker(episode: int, step: int) -> int:
    return episode * 100 + step


def observation(episode: int, step: int, name: int = 0) -> npt.NDArray[np.float32]:
    """[marker, name of the environment, and two small dyadic numbers that depend on the marker], float32."""
    code = marker(episode, step) + 1000 * name
    return np.array([marker(episode, step), name, code * 37 % 64 / 64, (code * 11 % 128 - 64) / 64], np.float32)


def where(obs: npt.NDArray[Any]) -> tuple[int, int, int]:
    """(episode, step, name) of an observation."""
    return int(obs[0]) // 100, int(obs[0]) % 100, int(obs[1])


class MarkerEnv(gym.Env):
    """Observations say `episode·100 + step`; episodes end as told, in turn terminated and truncated.

    Args:
        lengths: of the episodes, in turn; episode e has lengths[(e + name) % len(lengths)] steps.
        name: of this environment, the second number of each observation.
        seeded: a reset with a seed makes that seed the episode's number (and so decides its length).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        lengths: Sequence[int] = DEFAULT_LENGTHS,
        name: int = 0,
        seeded: bool = False,
        render_mode: str | None = None,
        actions: spaces.Space | None = None,
    ) -> None:
        self.observation_space = spaces.Box(-1.0, 1e9, (FEATURES,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32) if actions is None else actions
        self.lengths, self.name, self.seeded, self.render_mode = tuple(lengths), name, seeded, render_mode
        self.episode, self.steps = -1, 0

    @property
    def length(self) -> int:
        return self.lengths[(self.episode + self.name) % len(self.lengths)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = seed if self.seeded and seed is not None else self.episode + 1
        self.steps = 0
        return observation(self.episode, 0, self.name), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps >= self.length
        obs = observation(self.episode, self.steps, self.name)
        reward = float(marker(self.episode, self.steps)) + float(np.sum(action))
        return obs, reward, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {"step": self.steps}

    def render(self) -> Any:
        return np.full((32, 32, 3), self.steps, np.uint8)


gym.register("Marker-v0", entry_point=f"{__name__}:MarkerEnv")


class Memory(NamedTuple):
    digest: npt.NDArray[np.float64]
    seen: npt.NDArray[np.int64]


class RecordingPolicy:
    """Remembers all observations of each row since its reset, as an exact running digest.

    digest ← (31·digest + marker + 7·name + 1) mod 2²⁰; the action shows it; "spikes" are the marker's and 1.
    """

    observation_shape = (FEATURES,)
    action_shape = (2,)
    discrete, timesteps = False, 1
    low, high = -np.ones(2, np.float32), np.ones(2, np.float32)

    def __init__(self) -> None:
        self.last_decision: Decision | None = None
        self.reset(num_envs=1)

    def initial_state(self, n: int) -> Memory:
        return Memory(np.zeros(n), np.zeros(n, np.int64))

    def reset(self, mask: Any = None, *, num_envs: int | None = None, seed: int | None = None) -> None:
        if mask is None:
            rows = num_envs or len(self.state.seen)
            self.state, self.counters, self.last_decision = self.initial_state(rows), Counters.zeros(rows, 2), None
            return
        rows = as_mask(mask, len(self.state.seen))
        self.state = Memory(*(np.where(rows, 0, memory) for memory in self.state))
        self.counters.clear(rows)

    def step(self, obs: Any, state: Memory) -> tuple[Any, Memory]:
        batch, batched = as_batch(obs, self.observation_shape)
        digest = (31 * state.digest + batch[:, 0].astype(np.float64) + 7 * batch[:, 1] + 1) % 2**20
        share = digest / 2**20
        return unbatch(np.stack([share, -share], 1).astype(np.float32), batched), Memory(digest, state.seen + 1)

    def act(self, obs: Any, *, active: Any = None) -> Any:
        batch, batched = as_batch(obs, self.observation_shape)
        if len(batch) != len(self.state.seen):
            raise ValueError(f"a batch of {len(batch)}, but the policy holds {len(self.state.seen)} rows")
        running = np.ones(len(batch), np.bool_) if active is None else as_mask(active, len(batch), "active")
        actions, after = self.step(batch, self.state)
        self.state = Memory(*(np.where(running, new, old) for new, old in zip(after, self.state, strict=True)))
        spikes = np.stack([batch[:, 0], np.ones(len(batch))], 1).astype(np.int64)
        none = np.zeros(len(batch), np.int64)
        self.last_decision = Decision(spikes, spikes.sum(1) * 10, none, none, none)
        self.counters.add(self.last_decision, running)
        return unbatch(actions, batched)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        return self.act(observation), None


def dyadic_actor(seed: int = 0, hidden: int = 12) -> Actor:
    """A small ReLU actor for `MarkerEnv` with weights in 64ths, which ignores the large marker itself."""
    rng = np.random.default_rng(seed)

    def weights(outputs: int, inputs: int) -> npt.NDArray[Any]:
        return rng.integers(-48, 49, (outputs, inputs)) / 64

    first = weights(hidden, FEATURES)
    first[:, 0] = 0
    layers = (
        Linear(first, weights(1, hidden)[0], RELU),
        Linear(weights(hidden, hidden), weights(1, hidden)[0], RELU),
        Linear(weights(2, hidden), weights(1, 2)[0]),
    )
    return Actor(layers, Head.clip([-1, -1], [1, 1]), (FEATURES,))


def spiking_policies() -> dict[str, Callable[[], Policy]]:
    """Makers of converted policies whose arithmetic is exact: weights, observations, thresholds all dyadic."""
    actor, width = dyadic_actor(), 12
    recording = np.array([observation(e, s, n) for e in range(20) for s in range(5) for n in range(3)])
    quanta = [np.full(FEATURES, 1 / 32), np.full(width, 1 / 32), np.full(width, 1 / 32)]
    thresholds = [np.full(width, 1 / 2), np.full(width, 1 / 2)]
    settings: dict[str, dict[str, Any]] = {
        "sigma-delta": {"threshold": quanta, "predictor": 1},
        "if, carried residual": {"neuron": "if", "threshold": thresholds, "timesteps": 4, "alpha": 0.5},
        "mt, differential": {"neuron": "mt", "coding": "differential", "threshold": thresholds, "timesteps": 2},
    }
    return {name: lambda chosen=chosen: convert(actor, recording, **chosen) for name, chosen in settings.items()}


def fresh_state(policy: Any, obs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """What a single environment's policy must hold when it is shown `obs`, computed from zero without any wrapper."""
    episode, steps, name = where(obs)
    state = policy.initial_state(1)
    for step in range(steps):
        _, state = policy.step(observation(episode, step, name)[None], state)
    return [memory[0] for memory in state]


ROWS = 3
MODES = list(AutoresetMode)


def make_vector(kind: Any = SyncVectorEnv, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **env: Any) -> Any:
    """Three marker environments side by side, named 0, 1, 2."""
    return kind([lambda row=row: MarkerEnv(name=row, **env) for row in range(ROWS)], autoreset_mode=mode)


def length_at(place: tuple[int, int, int]) -> int:
    """Steps of the episode at (episode, step, name)."""
    env = MarkerEnv(name=place[2])
    env.episode = place[0]
    return env.length


def assert_fresh(policy: Any, obs: Sequence[npt.NDArray[Any]] | npt.NDArray[Any]) -> None:
    """Every row is exactly where a fresh policy is that saw this row's episode alone; its counters too."""
    state = policy.state
    for row, row_obs in enumerate(obs):
        for name, own, expected in zip(state._fields, state, fresh_state(policy, row_obs), strict=True):
            assert own[row].tobytes() == expected.tobytes(), f"row {row}, {name}, at {where(row_obs)}"
        assert policy.counters.decisions[row] == where(row_obs)[1]
