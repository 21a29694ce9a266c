"""Environments restored to the bit: what was saved is replayed as it was, whatever happened in between."""

import ctypes
import queue
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipAction, FrameStackObservation, NormalizeObservation, NormalizeReward, TimeLimit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snn_policy.analysis.environment_state import (
    CannotRestoreError,
    check_restorable,
    identical,
    restore_state,
    save_state,
)
from snn_policy.analysis.replayed import Replayed, make_restorable
from snn_policy.environments import make_environment

REPLAYED = 50


class Walking(gym.Env):
    """Walk on a line, drifting at random; each subclass keeps its state somewhere else."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.begin()
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.move(float(action[0]) + self.np_random.normal())
        obs = self.seen()
        return obs, float(obs[0]), False, False, {}

    def begin(self) -> None: ...
    def move(self, by: float) -> None: ...
    def seen(self) -> Any: ...


class InArrays(Walking):
    """Change an array in place, of which another one shows a part; and a list of lists."""

    def begin(self) -> None:
        self.kept = np.zeros(3)
        self.shown = self.kept[:2]
        self.past: list[list[float]] = [[0.0]]

    def move(self, by: float) -> None:
        self.kept += by
        self.past[-1].append(self.past[-1][-1] / 2 + by)

    def seen(self) -> Any:
        return np.array([self.shown[0], self.past[-1][-1]], np.float32)


class InObjects(Walking):
    """Keep it in an object with slots, one with attributes, a queue, a set, and a closure."""

    class Slotted:
        __slots__ = ("place",)

    def begin(self) -> None:
        self.slotted, self.free = self.Slotted(), SimpleNamespace(places={0: deque([0.0], maxlen=3)}, met=set())
        count = 0

        def counted() -> int:
            nonlocal count
            count += 1
            return count

        self.slotted.place, self.counted = 0.0, counted

    def move(self, by: float) -> None:
        self.slotted.place += by
        self.free.places[0].append(self.slotted.place)
        self.free.met.add(round(by))

    def seen(self) -> Any:
        return np.array([sum(self.free.places[0]), self.counted() + len(self.free.met)], np.float32)


class InTensors(Walking):
    """Keep it in tensors, one a view of the other, and an array of Python's; draw with torch's generator."""

    def begin(self) -> None:
        self.torch = torch = pytest.importorskip("torch")
        self.kept, self.source, self.numbers = torch.zeros(4), torch.Generator().manual_seed(3), array("d", [0.0])
        self.view, self.layer = self.kept[1:3], torch.nn.Linear(2, 2).requires_grad_(False)

    def move(self, by: float) -> None:
        self.kept += by
        self.layer.weight.add_(by)
        self.numbers[0] += self.torch.rand(1, generator=self.source).item()

    def seen(self) -> Any:
        return np.array([self.layer(self.view).sum().item(), self.numbers[0]], np.float32)


class InGenerators(Walking):
    """Draw from generators of three kinds, one of them shared by name, one only reached through its method."""

    def begin(self) -> None:
        import random

        self.draw = np.random.default_rng(5).normal
        self.sources = {"old": np.random.RandomState(3), "python": random.Random(4), "mine": self.np_random}

    def seen(self) -> Any:
        drawn = self.sources["mine"].normal() + self.sources["old"].normal()
        return np.array([drawn + self.draw(), self.sources["python"].random()], np.float32)


class WithProtocol(Walking):
    """Keep its state where only it can find it, and hand it out by the two methods."""

    def __init__(self) -> None:
        self._lock, self._hidden = threading.Lock(), iter(())
        self._vault = {id(self): [0.0]}

    def begin(self) -> None:
        self._vault[id(self)][0] = 0.0

    def move(self, by: float) -> None:
        self._vault[id(self)][0] += by

    def seen(self) -> Any:
        return np.array([self._vault[id(self)][0], 1.0], np.float32)

    def get_state(self) -> Any:
        return self._vault[id(self)], self.np_random.bit_generator.state

    def set_state(self, state: Any) -> None:
        self._vault[id(self)], self.np_random.bit_generator.state = state


class Counting(gym.Wrapper):
    """Add the number of steps so far to the reward."""

    def reset(self, **options: Any) -> Any:
        self.steps = 0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        self.steps += 1
        obs, reward, *rest = self.env.step(action)
        return obs, float(reward) + self.steps, *rest


class WholeChain(gym.Wrapper):
    """Save by itself all that it wraps."""

    def get_state(self) -> Any:
        inner = self.env
        return inner.get_state(), getattr(inner, "steps", None)  # pyright: ignore[reportAttributeAccessIssue]

    def set_state(self, state: Any) -> None:
        self.env.set_state(state[0])  # pyright: ignore[reportAttributeAccessIssue]


def wrapped() -> gym.Env:
    return FrameStackObservation(NormalizeObservation(TimeLimit(gym.make("Hopper-v5").unwrapped, 40)), 3)


def doubly_wrapped() -> gym.Env:
    return NormalizeReward(Counting(gym.make("Pendulum-v1", max_episode_steps=30)))


def later() -> gym.Env:
    return InQueue()


MADE: list[str | Callable[[], gym.Env]] = [
    "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Swimmer-v5", "Humanoid-v5", "Reacher-v5", "Pendulum-v1",
    "CartPole-v1", "MountainCarContinuous-v0", "Acrobot-v1", "dm_control/cartpole-swingup-v0",
    "dm_control/finger-spin-v0", "dm_control/reacher-easy-v0", "dm_control/walker-walk-repeat2-v0", wrapped,
    doubly_wrapped, InArrays, InObjects, InTensors, InGenerators, WithProtocol, lambda: Counting(WithProtocol()),
    lambda: WholeChain(WithProtocol()), later,
]  # fmt: skip
BOX2D = ["LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "BipedalWalkerHardcore-v3"]


def named(made: Any) -> str:
    return made if isinstance(made, str) else getattr(made, "__name__", "made")


@pytest.fixture(scope="module", params=[*MADE, *BOX2D], ids=named)
def environment(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("mujoco")
    if request.param in BOX2D:
        pytest.importorskip("Box2D")
    if str(request.param).startswith("dm_control"):
        pytest.importorskip("dm_control")
    env = make_restorable(request.param)
    yield env
    env.close()


def replay(env: gym.Env, actions: list[Any]) -> list[tuple[Any, ...]]:
    found = []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        found.append((np.array(obs), reward, terminated, truncated))
        if terminated or truncated:
            break
    return found


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), before=st.integers(0, 15), elsewhere=st.booleans())
def test_a_restored_environment_replays_50_actions_to_the_bit(
    environment: gym.Env, seed: int, before: int, elsewhere: bool
) -> None:
    environment.action_space.seed(seed)
    environment.reset(seed=seed)
    if any(replay(environment, [environment.action_space.sample()])[0][2:] != (False, False) for _ in range(before)):
        environment.reset(seed=seed)
    state = save_state(environment)
    actions = [environment.action_space.sample() for _ in range(REPLAYED)]
    first = replay(environment, actions)
    for _ in range(2):
        if elsewhere:
            environment.reset(seed=seed + 1)
            replay(environment, actions[:3])
        restore_state(environment, state)
        again = replay(environment, actions)
        assert len(again) == len(first)
        assert all(identical(one, other) for one, other in zip(first, again, strict=True))


def test_memory_that_is_used_again_gives_the_same_and_the_old_state_says_so() -> None:
    env = make_environment("Hopper-v5")
    env.reset(seed=0)
    first = save_state(env)
    action = np.full(3, 0.3, np.float32)
    env.step(action)
    second = save_state(env, reuse=first)
    moved = env.step(action)[0]
    restore_state(env, second)
    assert identical(env.step(action)[0], moved)
    with pytest.raises(ValueError, match="memory was reused"):
        restore_state(env, first)
    other = make_environment("Hopper-v5")
    with pytest.raises(ValueError, match="another Hopper-v5"):
        restore_state(other, second)


def test_tasks_that_move_their_target_at_a_reset_get_the_old_one_back() -> None:
    pytest.importorskip("dm_control")
    env = make_environment("dm_control/reacher-easy-v0")
    env.reset(seed=0)
    physics: Any = env.get_wrapper_attr("_env").physics
    target, state = physics.named.model.geom_pos["target"].copy(), save_state(env)
    env.reset(seed=1)
    assert not np.array_equal(physics.named.model.geom_pos["target"], target)
    restore_state(env, state)
    assert np.array_equal(physics.named.model.geom_pos["target"], target)


def test_objects_keep_their_identity_and_what_is_new_since_is_gone() -> None:
    env = InArrays()
    env.reset(seed=0)
    array, state = env.kept, save_state(env)
    env.step([1.0])
    env.later = 1  # pyright: ignore[reportAttributeAccessIssue]
    restore_state(env, state)
    assert env.kept is array
    assert env.shown.base is array
    assert not hasattr(env, "later")
    assert array.tolist() == [0.0, 0.0, 0.0]


class Opaque(Walking):
    def begin(self) -> None:
        self.parts = {"source": [iter([1.0, 2.0])]}

    def seen(self) -> Any:
        return np.zeros(2, np.float32)


class Structure(ctypes.Structure):
    _fields_ = [("place", ctypes.c_double)]


class InC(Walking):
    """Keep it where C code does, in an object that has attributes, too."""

    def begin(self) -> None:
        self.world = Structure(0.0)
        self.world.name = "world"

    def move(self, by: float) -> None:
        self.world.place += by

    def seen(self) -> Any:
        return np.array([self.world.place, 0.0], np.float32)


class Global(Walking):
    def seen(self) -> Any:
        return np.array([np.random.normal(), 0.0], np.float32)  # noqa: NPY002


class Elsewhere(Walking):
    """Keep its state outside of the environment's objects, as a simulator in another process does."""

    def begin(self) -> None:
        _FAR_AWAY[0] = 0.0

    def move(self, by: float) -> None:
        _FAR_AWAY[0] += by

    def seen(self) -> Any:
        return np.array([_FAR_AWAY[0], 0.0], np.float32)


_FAR_AWAY = [0.0]


class Forgetful(InArrays):
    def get_state(self) -> Any:
        return self.kept.copy()

    def set_state(self, state: Any) -> None:
        self.kept[:] = state


class Silent(InArrays):
    def get_state(self) -> Any:
        raise RuntimeError("no state\nhere")

    def set_state(self, state: Any) -> None: ...


class Deaf(InArrays):
    def get_state(self) -> Any:
        return 0

    def set_state(self, state: Any) -> None:
        raise ValueError("what state")


class InThread(Walking):
    """Keep its state in a thread, which waits for actions, as a simulator's driver may."""

    def __init__(self) -> None:
        self.asked, self.answers = queue.Queue(), queue.Queue()
        threading.Thread(target=self._walk, daemon=True).start()

    def _walk(self) -> None:
        place = 0.0
        while True:
            by = self.asked.get()
            place = 0.0 if by is None else place + by
            self.answers.put(place)

    def begin(self) -> None:
        self.place = self._ask(None)

    def move(self, by: float) -> None:
        self.place = self._ask(by)

    def seen(self) -> Any:
        return np.array([self.place, 0.0], np.float32)

    def _ask(self, by: float | None) -> float:
        self.asked.put(by)
        answer = self.answers.get(timeout=20)
        while not self.asked.not_empty._waiters:  # pyright: ignore[reportAttributeAccessIssue]
            time.sleep(0.001)
        return answer


class WithThread(Walking):
    """Have a thread that runs."""

    def begin(self) -> None:
        self.thread = threading.Thread(target=time.sleep, args=(30,), daemon=True)
        self.thread.start()

    def seen(self) -> Any:
        return np.zeros(2, np.float32)


class Awaiting(Walking):
    """Have an event that a thread waits for."""

    def begin(self) -> None:
        self.event = threading.Event()
        threading.Thread(target=self.event.wait, daemon=True).start()
        while not self.event._cond._waiters:  # pyright: ignore[reportAttributeAccessIssue]
            time.sleep(0.001)

    def seen(self) -> Any:
        return np.zeros(2, np.float32)


class InQueue(Walking):
    """Delay its moves by a queue that no other thread knows of."""

    def begin(self) -> None:
        self.late, self.place = queue.Queue(), 0.0
        self.late.put(0.0)

    def move(self, by: float) -> None:
        self.late.put(by)
        self.place += self.late.get()

    def seen(self) -> Any:
        return np.array([self.place, self.late.qsize()], np.float32)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Opaque, r"parts\.source\.0 is a builtins\.list_iterator, whose contents cannot be seen"),
        (lambda: Counting(Opaque()), r"env\.parts\.source\.0 is a builtins\.list_iterator"),
        (InC, r"world is a .*Structure, whose contents cannot be seen"),
        (InThread, r"asked\.not_empty is a threading\.Condition, whose contents cannot be seen"),
        (WithThread, r"thread is a threading\.Thread, whose contents cannot be seen"),
        (Awaiting, r"event\._cond is a threading\.Condition"),
        (Forgetful, r"the observation 1 step.*its get_state\(\) and set_state\(state\) leave out something"),
        (lambda: Counting(Forgetful()), "leave out something"),
        (Silent, "its get_state raised RuntimeError: no state here"),
        (Deaf, "its set_state raised ValueError: what state"),
        (Global, "the observation 1 step"),
        (Elsewhere, "the observation 1 step"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_its_name_and_the_way_out(made: Any, reason: str) -> None:
    with pytest.raises(CannotRestoreError, match=reason) as refused:
        check_restorable(made())
    assert str(refused.value).startswith("environment ")
    assert "get_state() and set_state(state)" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_box2d_is_refused_by_name() -> None:
    like_box2d = type("LunarLander", (Walking,), {"__module__": "gymnasium.envs.box2d.lunar_lander"})
    with pytest.raises(CannotRestoreError, match=r"LunarLander.*Box2D keeps contacts"):
        save_state(like_box2d())


World = type("b2World", (), {"__module__": "Box2D.Box2D"})


class HoldsWorld(Walking):
    """Have a world of Box2D's, as an environment of one's own may."""

    def __init__(self) -> None:
        self.place, self.world = 0.0, World()

    def begin(self) -> None:
        self.place = 0.0

    def move(self, by: float) -> None:
        self.place += by

    def seen(self) -> Any:
        return np.array([self.place, 0.0], np.float32)


class SavesItself(HoldsWorld):
    def get_state(self) -> Any:
        return self.place, self.np_random.bit_generator.state

    def set_state(self, state: Any) -> None:
        self.place, self.np_random.bit_generator.state = state


@pytest.mark.parametrize(
    ("made", "repeated"),
    [
        (HoldsWorld, True),
        (lambda: Counting(HoldsWorld()), True),
        (lambda: TimeLimit(Counting(HoldsWorld()), 40), True),
        (SavesItself, False),
        (InArrays, False),
        (lambda: gym.make("Pendulum-v1"), False),
    ],
)
def test_whatever_holds_a_world_of_box2d_and_does_not_save_itself_is_repeated(made: Any, repeated: bool) -> None:
    env = make_restorable(made)
    assert isinstance(env, Replayed) == repeated
    check_restorable(env, steps=20)


class Hidden(Walking):
    """Draw its steps from an iterator that cannot be seen into."""

    def begin(self) -> None:
        self.steps, self.place = iter(self.np_random.normal(size=500).tolist()), 0.0

    def move(self, by: float) -> None:
        self.place += by * next(self.steps)

    def seen(self) -> Any:
        return np.array([self.place, 1.0], np.float32)


class Weathered(gym.Wrapper):
    """Blow in every episode from elsewhere, out of a generator that no reset seeds."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.weather, self.episodes = np.random.default_rng(9), 0

    def reset(self, **options: Any) -> Any:
        self.wind, self.episodes = self.weather.normal(), self.episodes + 1
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action + np.float32(self.wind))
        return obs, float(reward) + self.episodes, *rest


class Unseen(gym.Wrapper):
    """Hold what nobody can look into, and what no step depends on."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.hidden = iter([1.0])


@pytest.mark.parametrize(
    "made",
    [
        lambda: Replayed(Hidden()),
        lambda: Counting(Replayed(Hidden())),
        lambda: Replayed(Counting(Hidden())),
        lambda: Replayed(gym.make("Pendulum-v1")),
        lambda: Replayed(NormalizeObservation(Hidden())),
        lambda: Replayed(FrameStackObservation(NormalizeReward(NormalizeObservation(TimeLimit(Hidden(), 90))), 3)),
        lambda: Replayed(Weathered(Hidden())),
        lambda: Replayed(NormalizeObservation(Unseen(Hidden()))),
        lambda: NormalizeObservation(Replayed(Weathered(Hidden()))),
    ],
)
@pytest.mark.parametrize("seed", [0, None])
def test_episodes_that_are_repeated_need_nothing_else(made: Any, seed: int | None) -> None:
    env = made()
    check_restorable(env)
    env.reset(seed=seed)
    actions = [env.action_space.sample() for _ in range(20)]
    replay(env, actions[:10])
    state = save_state(env)
    first = replay(env, actions)
    env.reset()
    restore_state(env, state)
    assert all(identical(one, other) for one, other in zip(first, replay(env, actions), strict=True))


@pytest.mark.parametrize("env_id", BOX2D)
def test_box2d_is_repeated_to_the_bit(env_id: str) -> None:
    pytest.importorskip("Box2D")
    check_restorable(Replayed(gym.make(env_id)), steps=30)
    with pytest.raises(CannotRestoreError, match=r"Replayed around it"):
        check_restorable(gym.make(env_id))


@pytest.mark.parametrize("env_id", ["LunarLanderContinuous-v3", "BipedalWalker-v3", "Pendulum-v1", "Hopper-v5"])
@pytest.mark.parametrize("order", [0, 1])
def test_wrappers_that_remember_come_back_with_what_they_wrap(env_id: str, order: int) -> None:
    pytest.importorskip("mujoco" if env_id == "Hopper-v5" else "Box2D" if env_id[0] in "LB" else "gymnasium")

    def made() -> gym.Env:
        clipped = ClipAction(TimeLimit(gym.make(env_id).unwrapped, 70))
        if order:
            return NormalizeReward(NormalizeObservation(FrameStackObservation(clipped, 3)))
        return FrameStackObservation(NormalizeObservation(clipped), 3)

    env = make_restorable(made)
    assert isinstance(env, Replayed) == (env_id[0] in "LB")
    check_restorable(env, steps=20)


def test_what_was_never_reset_cannot_be_repeated() -> None:
    env = Replayed(Hidden())
    with pytest.raises(ValueError, match="before the first reset"):
        restore_state(env, save_state(env))


def test_methods_of_other_arguments_are_no_protocol() -> None:
    class Other(InArrays):
        def get_state(self, verbose: bool) -> Any:
            raise AssertionError

        def set_state(self, positions: Any, velocities: Any) -> None:
            raise AssertionError

    check_restorable(Other())
