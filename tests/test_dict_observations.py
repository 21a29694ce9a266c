"""Observations that are dictionaries, end to end: what the environment gives is what every policy takes."""

import copy
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from snn_policy import SpikingPolicy, convert
from snn_policy.errors import UnsupportedLayerError
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.protocol import KeyedShape, as_batch
from snn_policy.serving.wire import MessageError, decode_request, encode_array
from snn_policy.sources import load_actor
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval

PARTS = {"achieved_goal": (3,), "desired_goal": (3,), "observation": (2, 2)}


class Reach(gym.Env):
    """A hand that should reach a goal; its observation is a dictionary, as of gymnasium-robotics and panda-gym."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({key: spaces.Box(-9, 9, shape) for key, shape in PARTS.items()})
        self.action_space = spaces.Box(-1, 1, (3,))

    def _seen(self) -> dict[str, Any]:
        velocity = np.resize(self.moved, (2, 2))
        return {"achieved_goal": self.hand, "desired_goal": self.goal, "observation": velocity.astype(np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.hand, self.goal = (self.np_random.uniform(-1, 1, 3).astype(np.float32) for _ in range(2))
        self.moved, self.steps = np.zeros(3, np.float32), 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.moved = np.clip(action, -1, 1).astype(np.float32) * 0.1
        self.hand, self.steps = self.hand + self.moved, self.steps + 1
        return self._seen(), -float(np.linalg.norm(self.hand - self.goal)), False, self.steps == 20, {}


@pytest.fixture(scope="module")
def model() -> Any:
    vec = VecNormalize(DummyVecEnv([Reach]))
    model = SAC("MultiInputPolicy", vec, policy_kwargs={"net_arch": [16]}, learning_starts=20, buffer_size=200)
    return model.learn(60)


def observations(rows: int) -> Any:
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal((rows, *shape)).astype(np.float32) for key, shape in PARTS.items()}


def test_a_live_algorithm_and_its_zip_act_as_predict_does(tmp_path: Path, model: Any) -> None:
    model.save(tmp_path / "reach.zip")
    model.get_env().save(str(tmp_path / "reach.vecnormalize.pkl"))
    obs = observations(50)
    own, _ = model.predict(model.get_env().normalize_obs(obs), deterministic=True)
    for actor in (load_actor(model), load_actor(tmp_path / "reach.zip")):
        assert isinstance(actor.observation_shape, KeyedShape)
        assert actor.observation_shape.parts == PARTS
        assert np.abs(actor.act(obs) - own).max() < 1e-5
        assert np.array_equal(actor.act(obs), actor.act(actor.observation_shape.joined(obs)))
        assert np.abs(actor.predict({key: values[0] for key, values in obs.items()})[0] - own[0]).max() < 1e-5
        assert np.abs(actor.step(obs, ())[0] - own).max() < 1e-5


@pytest.mark.parametrize("algorithm", [PPO, TQC])
def test_further_algorithms_without_statistics(tmp_path: Path, algorithm: Any) -> None:
    model = algorithm("MultiInputPolicy", Reach(), policy_kwargs={"net_arch": [16]})
    model.save(tmp_path / "m.zip")
    obs = observations(20)
    for source in (model, tmp_path / "m.zip"):
        actor = load_actor(source, vecnormalize=False)
        assert np.abs(actor.act(obs) - model.predict(obs, deterministic=True)[0]).max() < 1e-5


def test_everything_around_a_spiking_policy_takes_what_the_environment_gives(tmp_path: Path, model: Any) -> None:
    actor = load_actor(model)
    recorded = actor.collect(Reach, steps=200)
    assert recorded.shape == (200, 10)
    policy = convert(actor, recorded)
    policy.save(tmp_path / "bundle")
    policy = SpikingPolicy.load(tmp_path / "bundle")
    assert isinstance(policy.observation_shape, KeyedShape)
    assert policy.observation_shape.parts == PARTS
    obs = observations(4)
    assert np.array_equal(policy.act(obs), convert(actor, recorded).act(policy.observation_shape.joined(obs)))

    ann, snn = (evaluate(given, Reach, episodes=4, seed=3) for given in (actor, policy))
    assert abs(ann.mean - snn.mean) < 0.1 * abs(ann.mean)
    mean: Any = evaluate_policy(policy, DummyVecEnv([Reach, Reach]), n_eval_episodes=4, warn=False)[0]
    assert mean < 0

    env = SpikingPolicyEval(Reach(), policy)
    seen, _ = env.reset(seed=0)
    for _ in range(3):
        seen, *_ = env.step(env.act(seen))
    rows = SpikingPolicyVectorEval(SyncVectorEnv([Reach] * 3), policy)
    seen, _ = rows.reset(seed=0)
    for _ in range(25):
        seen, *_ = rows.step(rows.act(seen))
    assert set(seen) == set(PARTS)


def test_keys_and_shapes_that_do_not_fit_are_named() -> None:
    shape, obs = KeyedShape(PARTS), observations(2)
    for changed, message in (
        ({key: obs[key] for key in list(PARTS)[:2]}, "expected the keys achieved_goal, desired_goal, observation"),
        (obs | {"more": obs["achieved_goal"]}, "got .*more"),
        (obs | {"desired_goal": np.zeros((2, 4))}, r"'desired_goal': expected shape \(3,\)"),
        (obs | {"desired_goal": np.zeros(3)}, "batches"),
        (obs | {"desired_goal": np.full((2, 3), np.nan)}, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            as_batch(changed, shape)  # pyright: ignore[reportArgumentType]
    for copied in (copy.deepcopy(shape), pickle.loads(pickle.dumps(shape))):
        assert copied == shape
        assert copied.parts == PARTS


def test_a_server_takes_a_map_of_arrays() -> None:
    import msgpack

    shape, obs = KeyedShape(PARTS), observations(1)
    fields = {key: encode_array(values[0]) for key, values in obs.items()}
    request = decode_request(msgpack.packb({"observation": fields}) or b"", shape)
    assert request.observation is not None
    assert np.array_equal(request.observation, shape.joined(obs))
    for wrong in (fields | {"more": 3}, {"observation": 1}, {**fields, "observation": {"a": 1}}):
        with pytest.raises(MessageError):
            decode_request(msgpack.packb({"observation": wrong}) or b"", shape)


def test_what_is_no_vector_is_refused(tmp_path: Path) -> None:
    class Seeing(Reach):
        def __init__(self) -> None:
            super().__init__()
            parts = {"state": spaces.Box(-1, 1, (3,)), "camera": spaces.Box(0, 255, (3, 64, 64), np.uint8)}
            self.observation_space = spaces.Dict(parts)

    class Choosing(Reach):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"state": spaces.Box(-1, 1, (3,)), "mode": spaces.Discrete(3)})

    for environment, name in ((Seeing, "camera"), (Choosing, "mode")):
        model = PPO("MultiInputPolicy", environment(), policy_kwargs={"net_arch": [8]})
        model.save(tmp_path / "m.zip")
        for source in (model, tmp_path / "m.zip"):
            with pytest.raises(UnsupportedLayerError, match=name):
                load_actor(source)


def test_a_dictionary_of_recorded_arrays_is_a_recording(model: Any) -> None:
    actor, recorded = load_actor(model), observations(300)
    together = convert(actor, recorded)
    one_by_one = convert(actor, [{key: values[i] for key, values in recorded.items()} for i in range(300)])
    joined = convert(actor, KeyedShape(PARTS).joined(recorded))
    for other in (one_by_one, joined):
        quanta = zip(together.network.neurons.quanta, other.network.neurons.quanta, strict=True)  # pyright: ignore
        assert all(np.array_equal(a, b) for a, b in quanta)
    with pytest.raises(ValueError, match="expected the keys achieved_goal, desired_goal, observation, got observation"):
        convert(actor, {"observation": recorded["observation"]})
    with pytest.raises(ValueError, match="batches of"):
        convert(actor, recorded | {"observation": recorded["observation"][:9]})


@pytest.mark.parametrize("chosen", [["observation"], ["achieved_goal", "desired_goal"], ["desired_goal"]])
def test_keys_that_vecnormalize_leaves_alone_stay_as_they_are(tmp_path: Path, chosen: list[str]) -> None:
    vec = VecNormalize(DummyVecEnv([Reach]), norm_obs_keys=chosen, clip_obs=2.0)
    model = SAC("MultiInputPolicy", vec, policy_kwargs={"net_arch": [16]}, learning_starts=20, buffer_size=200)
    model.learn(40)
    model.save(tmp_path / "reach.zip")
    vec.save(str(tmp_path / "reach.vecnormalize.pkl"))
    obs: Any = {key: 40 * values for key, values in observations(60).items()}
    own, _ = model.predict(vec.normalize_obs(obs), deterministic=True)
    for actor in (load_actor(model), load_actor(tmp_path / "reach.zip")):
        assert np.abs(actor.act(obs) - own).max() < 1e-5
    policy = convert(actor, actor.collect(Reach, steps=300))
    policy.save(tmp_path / "run")
    again = SpikingPolicy.load(tmp_path / "run")
    small: Any = {key: values[:8] / 40 for key, values in obs.items()}
    assert np.array_equal(again.act(small), policy.act(small))
    assert np.abs(again.actor.act(small) - policy.act(small)).max() < 0.2


def test_without_clipping_nothing_is_clipped_where_it_is_left_alone() -> None:
    vec = VecNormalize(DummyVecEnv([Reach]), norm_obs_keys=["observation"], clip_obs=float("inf"))
    model = SAC("MultiInputPolicy", vec, policy_kwargs={"net_arch": [16]}, learning_starts=20, buffer_size=200)
    model.learn(40)
    normaliser = load_actor(model).normaliser
    assert normaliser is not None
    assert normaliser.clip == float("inf")
    assert (normaliser.mean[:6] == 0).all()
    assert (normaliser.scale[:6] == 1).all()


def test_statistics_of_other_keys_are_refused(model: Any) -> None:
    from snn_policy.sources.vecnormalize import ObservationStatistics, of_one_array

    part = ObservationStatistics(np.zeros(3), np.ones(3))
    with pytest.raises(UnsupportedLayerError, match="statistics of elsewhere, but the keys are achieved_goal"):
        of_one_array({"elsewhere": part, "desired_goal": part}, KeyedShape(PARTS))
