"""RecurrentPPO on images: its LSTM behind a convolutional network is read; images within dictionaries are refused."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import gymnasium as gym
from gymnasium import spaces
from sb3_contrib import RecurrentPPO

from snn_policy import load_actor
from snn_policy.errors import UnsupportedLayerError

IMAGE = spaces.Box(0, 255, (3, 40, 40), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,))


class Seen(gym.Env[Any, Any]):
    """Random observations of a space."""

    def __init__(self, space: Any) -> None:
        self.observation_space, self.action_space, self.steps = space, spaces.Box(-1, 1, (2,)), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.sample(), 0.0, False, self.steps > 10, {}


def model(policy: str, space: Any) -> RecurrentPPO:
    made = RecurrentPPO(policy, Seen(space), n_steps=8, batch_size=8, seed=0)
    made.policy.action_net.weight.data *= 100  # pyright: ignore
    return made


@pytest.mark.parametrize(
    ("policy", "space"),
    [("CnnLstmPolicy", IMAGE), ("MultiInputLstmPolicy", spaces.Dict({"a": VECTOR, "b": VECTOR})),
     ("MlpLstmPolicy", VECTOR)],
)  # fmt: skip
def test_it_acts_as_predict_does_over_episodes(policy: str, space: Any) -> None:
    trained, state = model(policy, space), None
    actor = load_actor(trained)
    space.seed(0)
    for decision in range(60):
        begins = decision % 25 == 0
        if begins:
            actor.reset()
        obs = space.sample()
        own, state = trained.predict(obs, state, episode_start=np.array([begins]), deterministic=True)
        assert abs(actor.act(obs) - own).max() <= 1e-5


def test_images_within_dictionaries_are_refused_by_name() -> None:
    trained = model("MultiInputLstmPolicy", spaces.Dict({"image": IMAGE, "v": VECTOR}))
    with pytest.raises(UnsupportedLayerError, match=r"observation_space\['image'\].*only Boxes of vectors are read"):
        load_actor(trained)
