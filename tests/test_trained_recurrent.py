"""Policies trained on tasks that need memory keep their return as spiking networks, whoever runs the episodes."""

from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from examples import hidden_velocities
from examples.recurrent_students import STUDENTS, lstm_actor, student_actor
from snn_policy import SpikingPolicy, compare, load_actor
from snn_policy.ann.layers import Normaliser
from snn_policy.serving.snapshot import digest_of
from snn_policy.wrappers import SpikingPolicyVectorEval
from tests.serving import Client, running

TRAINED = Path(__file__).parent.parent / "examples" / "trained"
NAMES = sorted(folder.name for folder in TRAINED.iterdir() if not folder.name.endswith("-compressed"))
RETENTION = 0.99
LARGEST_BUNDLE = 300_000


@pytest.fixture(params=NAMES)
def name(request: Any) -> str:
    return request.param


def policy_of(name: str) -> SpikingPolicy:
    return SpikingPolicy.load(TRAINED / name, engine="numpy")


@cache
def makes(name: str) -> Any:
    """What makes the environment that a policy was trained on."""
    env_id = str(load_actor(TRAINED / name).env_id)
    return hidden_velocities.MAKERS.get(env_id, env_id)


def test_the_bundles_are_small_and_say_what_they_are(name: str) -> None:
    assert sum(file.stat().st_size for file in (TRAINED / name).iterdir()) < LARGEST_BUNDLE
    policy = policy_of(name)
    assert policy.card["returns"]["retention_of_means"] > RETENTION
    assert policy.actor.recurrent == (not name.startswith("simba"))
    assert not policy.actor.graph.is_chain
    assert policy.actor.name == name


@pytest.mark.parametrize("episodes", [4])
def test_the_return_is_kept(name: str, episodes: int) -> None:
    policy = policy_of(name)
    result = compare(load_actor(TRAINED / name), policy, makes(name), episodes=episodes, seed=7000, workers=1)
    assert result.retention_of_means > RETENTION
    assert result.snn.mean > LEAST[name.partition("-")[0]]


LEAST = {"gru": -300.0, "lstm": 400.0, "simba": 2000.0}


def test_a_policy_that_forgets_fails(name: str) -> None:
    """The task needs the memory: cleared before every decision, the same network is lost."""
    policy = policy_of(name)
    if not policy.actor.recurrent:
        pytest.skip("it has no memory")
    env = gym.make(str(policy.actor.env_id))
    returns = {}
    for forgets in (False, True):
        total = 0.0
        for seed in range(4):
            obs, over, state = env.reset(seed=seed)[0], False, policy.actor.initial_state(1)
            while not over:
                action, state = policy.actor.step(obs, policy.actor.initial_state(1) if forgets else state)
                obs, reward, terminated, truncated, _ = env.step(action)
                total, over = total + float(reward), terminated or truncated
        returns[forgets] = total / 4
    assert returns[True] < returns[False] - 100


@pytest.mark.parametrize("make", [load_actor, lambda place: SpikingPolicy.load(place, engine="numpy")])
def test_other_loops_find_the_same_return(name: str, make: Any) -> None:
    if name.startswith("simba"):
        pytest.skip("half a minute of simulation; the loops are tried on the recurrent ones")
    policy, maker = make(TRAINED / name), makes(name)
    vector = SpikingPolicyVectorEval(
        SyncVectorEnv([maker] * 3, autoreset_mode=AutoresetMode.SAME_STEP), policy
    ).evaluate(episodes=3, seed=11)
    env = DummyVecEnv([maker] * 3)
    env.seed(11)
    returns, _ = evaluate_policy(policy, env, 3, return_episode_rewards=True, warn=False)
    assert sorted(vector.returns) == pytest.approx(sorted(returns), abs=1e-3)  # pyright: ignore[reportArgumentType]


def test_a_server_drives_two_robots_at_once(name: str) -> None:
    if name.startswith("simba"):
        pytest.skip("it has no memory to mix")
    policy = SpikingPolicy.load(TRAINED / name)  # the engine that serves by default; the other loops take NumPy's
    envs, observations, returns = [makes(name)() for _ in range(2)], [], np.zeros(2)
    wanted = SpikingPolicyVectorEval(SyncVectorEnv([makes(name)] * 2), policy).evaluate(episodes=2, seed=60).returns
    observations = [env.reset(seed=60 + row)[0] for row, env in enumerate(envs)]
    running_rows = {0, 1}
    with running(policy, digest_of(policy)) as server, Client(server.port) as one, Client(server.port) as two:
        while running_rows:
            for row in sorted(running_rows):
                action = (one, two)[row].ask(observation=observations[row])["actions"]
                action = action.reshape(policy.action_shape)
                given = int(action) if policy.discrete else action
                observations[row], reward, terminated, truncated, _ = envs[row].step(given)
                returns[row] += float(reward)
                running_rows -= {row} if terminated or truncated else set()
    assert returns == pytest.approx(wanted, abs=1e-2)


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_student_as_an_actor_acts_as_its_module_does(kind: str) -> None:
    torch.manual_seed(0)
    module: Any = STUDENTS[kind](4, 2)
    mean, scale = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
    actor = student_actor(module, mean, scale, np.full(2, -3, np.float32), np.full(2, 3, np.float32), kind)
    observations = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy((observations - mean) / scale)[None])[0][0].numpy() * 3
    found = np.stack([actor.act(obs) for obs in observations])
    assert abs(found - wanted).max() < 1e-5 * 3


def test_recurrent_ppo_s_actor_chooses_as_predict_does() -> None:
    from sb3_contrib import RecurrentPPO

    network: Any = {"lstm_hidden_size": 8, "net_arch": {"pi": [8], "vf": [8]}, "activation_fn": torch.nn.ReLU}
    env = hidden_velocities.cartpole()
    model = RecurrentPPO("MlpLstmPolicy", env, n_steps=8, seed=0, policy_kwargs=network)
    actor = lstm_actor(model.policy.state_dict(), Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32)), "lstm")
    obs, state = env.reset(seed=0)[0], None
    for step in range(200):
        seen = (obs * 50).astype(np.float32)
        wanted, state = model.predict(seen, state, np.array([step == 0]), deterministic=True)
        assert actor.act(seen) == wanted
        obs, _, over, _, _ = env.step(int(wanted))
        obs = env.reset()[0] if over else obs


def test_hidden_velocities_are_hidden() -> None:
    env = gym.make(hidden_velocities.CARTPOLE)
    full = gym.make("CartPole-v1")
    np.testing.assert_array_equal(env.reset(seed=3)[0], full.reset(seed=3)[0][[0, 2]])
    np.testing.assert_array_equal(env.step(1)[0], full.step(1)[0][[0, 2]])
    assert gym.make(hidden_velocities.PENDULUM).observation_space.shape == (2,)
