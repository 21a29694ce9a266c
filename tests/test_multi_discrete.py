"""Several discrete actions at once (MultiDiscrete): read, converted, saved and exported, and acting as their source."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from snn_policy import OnnxPolicy, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.environments import check_spaces
from snn_policy.sources import load_actor
from tests.onnx_graphs import difference, exported

BOTH = [(9, False), (13, False), (17, False), (20, False), (18, True), (21, True)]
SPACES = [spaces.Discrete(3), spaces.MultiDiscrete([3, 2, 4]), spaces.MultiDiscrete([5]), spaces.Box(-1, 1, (2,))]


class Choosing(gym.Env):
    """Accepts the actions of its space and nothing else."""

    def __init__(self, actions: Any = None) -> None:
        self.observation_space = spaces.Box(-3, 3, (6,), np.float32)
        self.action_space = spaces.MultiDiscrete([3, 2, 4]) if actions is None else actions

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=6).clip(-3, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.steps += 1
        return self.np_random.normal(size=6).clip(-3, 3).astype(np.float32), 1.0, False, self.steps == 20, {}


def actor(choices: Any = (3, 2, 4)) -> Actor:
    rng = np.random.default_rng(0)
    head = Head.argmax(choices)
    hidden = Linear(rng.normal(size=(16, 6)).astype(np.float32), np.zeros(16, np.float32), RELU)
    last = Linear(rng.normal(size=(head.outputs, 16)).astype(np.float32), np.zeros(head.outputs, np.float32))
    return Actor((hidden, last), head, (6,))


OBSERVATIONS = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)


def test_every_action_is_the_index_of_its_own_largest_score() -> None:
    made = actor()
    y = made.activations(OBSERVATIONS)[1]
    wanted = np.stack([y[:, :3].argmax(1), y[:, 3:5].argmax(1), y[:, 5:].argmax(1)], axis=1)
    assert (made.act(OBSERVATIONS) == wanted).all()
    assert (made.low.tolist(), made.high.tolist(), made.action_shape) == ([0, 0, 0], [2, 1, 3], (3,))
    assert (actor(9).action_shape, actor([9]).action_shape) == ((), (1,))


@pytest.mark.parametrize("choices", [(3, 2, 4), (5,), (2, 2), 4])
@pytest.mark.parametrize("options", [{}, {"neuron": "if", "timesteps": 16}, {"neuron": "mt", "coding": "differential"}])
def test_every_engine_and_the_exported_graph_decide_alike(tmp_path: Path, choices: Any, options: Any) -> None:
    source = actor(choices)
    policies = [convert(source, OBSERVATIONS, engine=engine, **options) for engine in ("event", "numpy", "torch")]
    actions = [policy.act(OBSERVATIONS[:50]) for policy in policies]
    assert actions[0].shape == (50, *source.action_shape)
    assert actions[0].dtype == np.int64
    assert all((action == actions[0]).all() for action in actions)
    assert np.mean(actions[0] == source.act(OBSERVATIONS[:50])) >= 0.8
    policies[0].save(tmp_path / "bundle")
    again = SpikingPolicy.load(tmp_path / "bundle")
    assert again.actor.head.choices == source.head.choices
    assert (again.act(OBSERVATIONS[:50]) == actions[0]).all()
    policies[0].reset()
    policies[0].export_onnx(tmp_path / "graphs")
    graph = OnnxPolicy(tmp_path / "graphs")
    assert (graph.act(OBSERVATIONS[:50]) == actions[0]).all()
    assert (graph.high == source.high).all()


def test_a_single_choice_is_carried_by_its_own_entries_only() -> None:
    policy = convert(actor(), OBSERVATIONS)
    assert policy.conversion["changed_choices"] < 0.1
    with pytest.raises(ValueError, match="choices do not fit 9 outputs"):
        Head("argmax", np.zeros(2, np.int64), np.array([2, 2]), np.ones(9, np.float32), np.zeros(9, np.float32))


def test_episodes_are_recorded_where_the_environment_fits() -> None:
    assert actor().collect(Choosing, steps=60, seed=0).shape == (60, 6)
    for other in (spaces.MultiDiscrete([3, 2, 5]), spaces.MultiDiscrete([3, 2]), spaces.Discrete(9)):
        with pytest.raises(ValueError, match="3, 2, 4 choices from 0"):
            check_spaces(Choosing(other), actor())


class Deterministic(torch.nn.Module):
    """Stable-Baselines3's documented export."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: torch.Tensor) -> Any:
        return self.policy(observation, deterministic=True)


@pytest.mark.parametrize("space", SPACES, ids=["discrete", "multi", "single", "box"])
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "fixed"])
@pytest.mark.parametrize(("opset", "dynamo"), BOTH)
def test_the_export_of_stable_baselines3_acts_as_its_policy(
    tmp_path: Path, space: Any, opset: int, dynamo: bool, dynamic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stable_baselines3 import PPO

    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", not dynamo)  # dynamo cannot export checks
    model = PPO("MlpPolicy", Choosing(space), device="cpu", n_steps=8, seed=0, policy_kwargs={"net_arch": [16]})
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    options: dict[str, Any] = {"input_names": ["input"], "output_names": ["actions", "values", "log_prob"]}
    if dynamic and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif dynamic:
        options["dynamic_axes"] = {"input": {0: "batch"}}
    example = torch.zeros(2 if dynamic else 1, 6)
    path = exported(Deterministic(model.policy), tmp_path / "policy.onnx", (example,), dynamo, opset_version=opset,
                    **options)  # fmt: skip
    with pytest.warns(UserWarning, match="'actions' is read as the action, not values, log_prob"):
        found = load_actor(path)
    assert difference(found, path, "actions") <= 1e-5
    bounded = load_actor(path, output="actions", low=-1, high=1) if found.head.kind == "clip" else found
    wanted = model.predict(OBSERVATIONS, deterministic=True)[0]
    assert found.act(OBSERVATIONS).shape == wanted.shape
    assert np.abs(bounded.act(OBSERVATIONS) - wanted).max() <= 1e-5
