"""Recurrent actors and their spiking networks wherever a policy goes: each row has a memory of its own episode."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from snn_policy import Actor, SpikingPolicy, compare, compress, evaluate
from snn_policy.bench.decisions import time_decisions
from snn_policy.errors import UnsupportedLayerError
from snn_policy.protocol import Policy
from snn_policy.serving.sessions import Name, Sessions
from snn_policy.serving.snapshot import digest_of, restore, take_snapshot, write_snapshot
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval
from tests.serving import Client, running
from tests.stage_graphs import INPUTS, RECURRENT, graph_actor, walk
from tests.test_stages import fine_network

ALL = [(kind, spiking) for kind in RECURRENT for spiking in (False, True)]
NAMES = [f"{kind}-{'snn' if spiking else 'ann'}" for kind, spiking in ALL]


class Wander(gym.Env):
    """Observations wander by the seed; the reward tells the action, so a return tells all actions of an episode."""

    def __init__(self, name: int = 0) -> None:
        self.observation_space = spaces.Box(-99, 99, (INPUTS,), np.float32)
        self.action_space = spaces.Box(-2, 2, (3,), np.float32)
        self._name, self._episode = name, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._episode = self._episode + 1 if seed is None else seed
        self._step, self._length = 0, 3 + self._episode % 4
        self._walk = walk(12, 1, seed=self._episode)[:, 0]
        return self._walk[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        reward = float(action @ np.array([1.0, 10.0, 100.0]) * self._step)
        return self._walk[self._step], reward, self._step >= self._length, False, {}


def fresh(kind: str, spiking: bool) -> Any:
    if spiking:
        return SpikingPolicy(fine_network(kind, 1e-2, 0.5), engine="numpy")
    return graph_actor(kind)


def alone(policy: Any, seed: int) -> float:
    """The return of the episode of that seed, by the pure form."""
    env, state = Wander(), policy.initial_state(1)
    obs, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        action, state = policy.step(obs, state)
        obs, reward, over, _, _ = env.step(action)
        total += reward
    return total


@pytest.fixture(params=ALL, ids=NAMES)
def policy(request: Any) -> Any:
    return fresh(*request.param)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_evaluation_begins_every_episode_from_rest(policy: Any, num_envs: int) -> None:
    result = evaluate(policy, Wander, episodes=5, seed=20, num_envs=num_envs, workers=1)
    assert result.returns == pytest.approx([alone(policy, 20 + k) for k in range(5)], abs=1e-3)
    policy.reset()
    assert len(set(np.round(result.returns, 3))) == 5


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_workers_find_what_one_process_finds(kind: str) -> None:
    for spiking in (False, True):
        policy = fresh(kind, spiking)
        policy.act(walk(1, 5)[0])  # what is sent is in mid-episode
        found = evaluate(policy, Wander, episodes=4, seed=3, num_envs=2, workers=2)
        assert found.returns == pytest.approx([alone(policy, 3 + k) for k in range(4)], abs=1e-3)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_comparison_of_a_fine_network_keeps_the_return(kind: str) -> None:
    actor = graph_actor(kind)
    spiking = SpikingPolicy(fine_network(kind, 1e-4, 0.0), engine="numpy")
    result = compare(actor, spiking, Wander, episodes=6, seed=9, workers=1)
    assert result.ann.returns == pytest.approx([alone(actor, 9 + k) for k in range(6)], abs=1e-3)
    assert result.snn.returns == pytest.approx(result.ann.returns, rel=1e-2, abs=1.0)
    assert result.snn.multiply_accumulates == actor.graph.cell_macs
    assert result.dense_multiply_accumulates == actor.graph.macs


def test_the_single_wrapper_clears_the_memory_with_the_episode(policy: Any) -> None:
    env = SpikingPolicyEval(Wander(), policy, shadow=True)
    for seed in (4, 5, 4):
        obs, total, over, info = env.reset(seed=seed)[0], 0.0, False, {}
        while not over:
            obs, reward, over, _, info = env.step(env.act(obs))
            total += float(reward)
        assert total == pytest.approx(alone(policy, seed), abs=1e-3)
        error = info["snn"]["episode"]["ann_error"]
        assert error == 0 if isinstance(policy, Actor) else 0 < error < 0.05
    result = env.evaluate(episodes=3, seed=4)
    assert result.returns == pytest.approx([alone(policy, 4 + k) for k in range(3)], abs=1e-3)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_vector_wrapper_keeps_the_rows_memories_apart(policy: Any, mode: AutoresetMode) -> None:
    made = SyncVectorEnv([lambda k=k: Wander(k) for k in range(3)], autoreset_mode=mode)
    envs = SpikingPolicyVectorEval(made, policy, shadow=True)
    obs, _ = envs.reset(seed=[10, 21, 33])
    running, totals, found = [10, 21, 33], np.zeros(3), dict[int, float]()
    replaying = np.zeros(3, bool)
    for _ in range(25):
        obs, rewards, over, _, infos = envs.step(envs.act(obs))
        totals[~replaying] += rewards[~replaying]
        for row in np.flatnonzero(over):
            found[running[row]] = float(totals[row])
            error = infos["snn"]["episode"]["ann_error"][row]
            assert error == 0 if isinstance(policy, Actor) else 0 < error < 0.05
            running[row], totals[row] = running[row] + 1, 0.0
        replaying = over if mode == AutoresetMode.NEXT_STEP else np.zeros(3, bool)
        if mode == AutoresetMode.DISABLED and over.any():
            obs, _ = envs.reset(options={"reset_mask": over})
    assert len(found) > 9
    for seed, total in found.items():
        assert total == pytest.approx(alone(policy, seed), abs=1e-3)
    result = envs.evaluate(episodes=5, seed=50)
    assert result.returns == pytest.approx([alone(policy, 50 + k) for k in range(5)], abs=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_stable_baselines3_evaluates_it_unchanged(policy: Any, count: int) -> None:
    env = DummyVecEnv([Wander] * count)
    env.seed(40)
    returns, lengths = evaluate_policy(policy, env, 2 * count, return_episode_rewards=True, warn=False)
    first = sorted(np.round([alone(policy, 40 + row) for row in range(count)], 2))
    second = sorted(np.round([alone(policy, 41 + row) for row in range(count)], 2))
    expected = sorted([*first, *second])
    assert sorted(np.round(returns, 2)) == pytest.approx(expected, abs=0.05)  # pyright: ignore[reportCallIssue]
    assert sum(lengths) == sum(3 + (40 + row + k) % 4 for row in range(count) for k in range(2))  # pyright: ignore


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda policy: pickle.loads(pickle.dumps(policy)),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_in_mid_episode_goes_on_alone(policy: Any, how: str) -> None:
    observations = walk(12, rows=2)
    for obs in observations[:5]:
        policy.act(obs)
    twin = COPIES[how](policy)
    assert isinstance(twin, Policy)
    np.testing.assert_array_equal(twin.counters.decisions, [5, 5])
    wanted = [policy.act(obs) for obs in observations[5:]]
    np.testing.assert_array_equal(policy.counters.decisions, [12, 12])
    np.testing.assert_array_equal(twin.counters.decisions, [5, 5])
    twin.reset(np.array([False, False]))
    for obs, action in zip(observations[5:], wanted, strict=True):
        np.testing.assert_array_equal(twin.act(obs), action)
    with pytest.raises(ValueError, match="reset"):
        twin.act(observations[0][:1])


def test_recordings_hold_what_its_own_memory_leads_to() -> None:
    for kind in RECURRENT:
        actor = graph_actor(kind)
        recorded = actor.collect(Steered, steps=40, seed=2, noise=0.0)
        env, at = Steered(), 0
        for seed in range(2, 99):
            obs, over, state = env.reset(seed=seed)[0], False, actor.initial_state(1)
            while not over and at < len(recorded):
                np.testing.assert_allclose(recorded[at], obs, atol=1e-6)
                action, state = actor.step(obs, state)
                obs, _, over, _, _ = env.step(action)
                at += 1
            if at == len(recorded):
                break
        assert at == 40


class Steered(Wander):
    """What is seen depends on what was done."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, over, cut, info = super().step(action)
        return obs + np.tile(action, 4).astype(np.float32), reward, over, cut, info


def test_the_server_mixes_no_memories(policy: Any) -> None:
    first, second, third = (walk(8, 1, seed)[:, 0] for seed in (1, 2, 3))

    def wanted(observations: np.ndarray) -> np.ndarray:
        state, actions = policy.initial_state(1), []
        for obs in observations:
            action, state = policy.step(obs, state)
            actions.append(action)
        return np.stack(actions)

    with running(policy, digest_of(policy)) as server, Client(server.port) as one, Client(server.port) as other:
        found: dict[str, list[np.ndarray]] = {"one": [], "other": [], "named": []}
        for a, b, c in zip(first, second, third, strict=True):
            found["one"].append(one.ask(observation=a)["actions"])
            found["other"].append(other.ask(observation=b)["actions"])
            found["named"].append(one.ask(observation=c, session="arm")["actions"])
        again = one.ask(observation=first[0], reset=True)["actions"]
    for name, observations in (("one", first), ("other", second), ("named", third)):
        np.testing.assert_allclose(np.reshape(found[name], (8, 3)), wanted(observations), atol=1e-6)
    np.testing.assert_allclose(np.reshape(again, 3), wanted(first)[0], atol=1e-6)


def test_a_server_s_sessions_come_back_from_their_file(policy: Any, tmp_path: Any) -> None:
    sessions, observations = Sessions(policy, 8, 8, 600.0), walk(6)[:, 0]
    state = policy.initial_state(1)
    for obs in observations[:3]:
        _, state, _ = policy.decide(obs, state)
    sessions.adopt(Name("arm", None), [array[0] for array in state], 3)
    write_snapshot(tmp_path / "state", take_snapshot(sessions, policy), digest_of(policy))
    later = Sessions(policy, 8, 8, 600.0)
    assert restore(tmp_path / "state", later, policy, digest_of(policy)) == 1
    kept = later.memories.gather([later.named[Name("arm", None)].row])
    wanted, _, _ = policy.decide(observations[3], state)
    np.testing.assert_array_equal(policy.decide(observations[3], kept)[0], wanted)
    assert len({digest_of(fresh(kind, False)) for kind in RECURRENT} | {digest_of(policy)}) >= 3


@pytest.mark.parametrize("kind", ["lstm", "residual", "branches"])
def test_decisions_of_graphs_are_timed_against_onnx_runtime(kind: str) -> None:
    measured = time_decisions(graph_actor(kind), walk(200)[:, 0], ("event", "numpy"), rounds=1)
    names = [timing.name for timing in measured.timings]
    assert names[0] == "ANN, ONNX Runtime"
    assert {"sigma-delta 0.02, event", "ANN, NumPy", "sigma-delta 0.02, decision.onnx"} <= set(names)
    assert not any(name.startswith(("IF", "SNM", "MT")) for name in names)
    assert all(timing.median > 0 for timing in measured.timings)


@pytest.mark.parametrize("kind", ["lstm", "residual", "branches"])
def test_what_compresses_chains_only_refuses_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedLayerError, match="compression takes chains of layers only"):
        compress(graph_actor(kind), observations=walk(50)[:, 0])
