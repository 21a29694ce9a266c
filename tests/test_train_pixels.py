"""What the pixel training of `examples/` relies on: frame stacks put together again, networks that convert exactly."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import Actor, convert
from snn_policy.ann.layers import Head, Linear

EXAMPLES = str(Path(__file__).resolve().parent.parent / "examples")


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in ("pixel_networks", "pixel_rollouts", "train_pixels"):
        monkeypatch.delitem(sys.modules, name, raising=False)


class Counting:
    """Pictures that hold the episode and the decision; the state is the decision."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        self.frames, self.episode = [self._frame(seed, 0)] * 3, seed
        return self._stack(), {"state": np.zeros(1, np.float32)}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        decision = int(self.frames[-1][1, 0, 0]) + 1
        self.frames = [*self.frames[1:], self._frame(self.episode, decision)]
        return self._stack(), 1.0, False, decision == 5, {"state": np.full(1, decision, np.float32)}

    def _frame(self, episode: int, decision: int) -> np.ndarray:
        return np.stack([np.full((84, 84), value, np.uint8) for value in (episode, decision, 7)])

    def _stack(self) -> np.ndarray:
        stack = np.concatenate(self.frames)
        self.seen.append(stack)
        return stack


def test_stacks_are_those_that_the_environment_showed() -> None:
    from pixel_rollouts import Rollouts, roll_out

    expert = Actor((Linear(np.ones((2, 1), np.float32), np.zeros(2, np.float32)),), Head.clip([-9, -9], [9, 9]), (1,))
    env = Counting()
    rolled = roll_out(env, expert, 2, 3, np.random.default_rng(0), noise=0.1)
    shown = [stack for index, stack in enumerate(env.seen) if index % 6 != 5]  # nothing is decided after the last
    assert np.array_equal(rolled.stacks(np.arange(len(rolled))), np.stack(shown))
    assert np.array_equal(rolled.actions[:, 0], [0, 1, 2, 3, 4] * 2)
    assert rolled.returns.tolist() == [5, 5]
    both = rolled.joined(rolled)
    assert np.array_equal(both.stacks(np.array([11])), rolled.stacks(np.array([1])))
    assert isinstance(both, Rollouts)


def test_saved_rollouts_come_back(tmp_path: Path) -> None:
    from pixel_rollouts import Rollouts, roll_out

    expert = Actor((Linear(np.ones((2, 1), np.float32), np.zeros(2, np.float32)),), Head.clip([-9, -9], [9, 9]), (1,))
    rolled = roll_out(Counting(), expert, 1, 0, np.random.default_rng(0))
    rolled.save(tmp_path / "data.npz")
    read = Rollouts.load(tmp_path / "data.npz")
    assert all(np.array_equal(values, getattr(read, name)) for name, values in vars(rolled).items())


def test_the_directly_trained_network_is_the_policy_that_is_measured() -> None:
    from pixel_networks import IMAGE_SHAPE, SpikingPixelActor
    from train_pixels import as_actor

    torch.manual_seed(0)
    module = SpikingPixelActor("small", 2, 4).eval()
    actor = as_actor(module.shadow(), "spiking", "cartpole-swingup")
    policy = convert(actor, np.zeros((2, *IMAGE_SHAPE), np.uint8), neuron="if", coding="rate", alpha=0.0)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *IMAGE_SHAPE), np.uint8)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(pictures)).numpy()
    assert policy.timesteps == 4
    assert np.allclose(policy.act(pictures), wanted, atol=1e-5)


@pytest.mark.parametrize(("network", "parameters"), [("small", 170_000), ("drq", 3_300_000)])
def test_networks_load_and_have_their_size(network: Any, parameters: int) -> None:
    from pixel_networks import IMAGE_SHAPE, PixelActor
    from train_pixels import as_actor

    module = PixelActor(network, 1).eval()
    actor = as_actor(module, network, "cartpole-swingup")
    assert sum(parameter.numel() for parameter in module.parameters()) < parameters
    pictures = np.random.default_rng(0).integers(0, 256, (2, *IMAGE_SHAPE), np.uint8)
    with torch.inference_mode():
        assert np.allclose(actor.act(pictures), module(torch.from_numpy(pictures)).numpy(), atol=1e-5)
