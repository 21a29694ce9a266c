"""Convolutional actors on small pictures, and an environment that draws them: a bright square that an action pushes."""

from typing import Any

import gymnasium as gym
import numpy as np

from snn_policy import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, Layer, Linear, Normaliser

PICTURE = (2, 16, 16)


class Square(gym.Env[Any, Any]):
    """Show the last two frames, bytes; an action pushes a square of 4×4, reward is how near it is to the middle."""

    def __init__(self, discrete: bool = False, length: int = 40) -> None:
        self.observation_space = gym.spaces.Box(0, 255, PICTURE, np.uint8)
        self.action_space = gym.spaces.Discrete(3) if discrete else gym.spaces.Box(-1, 1, (2,), np.float32)
        self.discrete, self.length = discrete, length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.place = 0, self.np_random.uniform(0, 12, 2)
        frame = self._frame()
        self.frames = np.stack([frame, frame])
        return self.frames.copy(), {}

    def step(self, action: Any) -> Any:
        push = np.array([int(action) - 1, 0.5]) if self.discrete else np.asarray(action)
        self.place = np.clip(self.place + push + self.np_random.normal(size=2) * 0.3, 0, 12)
        self.steps += 1
        self.frames = np.stack([self.frames[1], self._frame()])
        reward = 1 - float(np.abs(self.place - 6).mean()) / 6
        return self.frames.copy(), reward, False, self.steps >= self.length, {}

    def _frame(self) -> Any:
        frame = np.full(PICTURE[1:], 40, np.uint8)
        down, right = self.place.astype(int)
        frame[down : down + 4, right : right + 4] = 220
        return frame


def picture_actor(
    seed: int = 0, activation: Activation = RELU, kind: str = "tanh", padding: tuple[int, int] = (0, 1),
    channels: tuple[int, int] = (16, 24), outputs: int = 2, normalised: bool = True,
) -> Actor:  # fmt: skip
    """Two strided convolutions, a hidden linear layer of 32 and a last one, random weights."""
    rng, layers, shape = np.random.default_rng(seed), list[Layer](), PICTURE
    f32 = np.float32
    for width, kernel, stride, pad in ((channels[0], 4, 2, padding), (channels[1], 3, 2, (1, 0))):
        weight = rng.normal(size=(width, shape[0], kernel, kernel)) * np.sqrt(2 / (shape[0] * kernel**2))
        layer = Conv2d(
            weight.astype(f32), (rng.normal(size=width) * 0.1).astype(f32), shape, (stride, stride), pad, activation
        )
        layers.append(layer)
        shape = layer.output_shape
    size = layers[-1].outputs
    for width, function, gain in ((32, activation, 2.0), (outputs, None, 1.0)):
        weight = rng.normal(size=(width, size)) * np.sqrt(gain / size)
        layers.append(Linear(weight.astype(f32), (rng.normal(size=width) * 0.1).astype(f32), function))
        size = width
    head = Head.argmax(outputs) if kind == "argmax" else Head.clip([-1.0] * outputs, [1.0] * outputs)
    head = Head.tanh([1.0] * outputs, [0.0] * outputs) if kind == "tanh" else head
    half = np.full((1, 1, 1), 128, np.float32)
    return Actor(tuple(layers), head, PICTURE, Normaliser(half, half) if normalised else None)


def recording(rows: int = 600, seed: int = 0) -> Any:
    """(rows, *PICTURE) uint8: episodes of a random policy."""
    env, found = Square(), []
    rng, over = np.random.default_rng(seed), True
    obs: Any = None
    while len(found) < rows:
        if over:
            obs, over = env.reset(seed=seed + len(found))[0], False
        else:
            obs, _, _, over, _ = env.step(rng.uniform(-1, 1, 2))
        found.append(obs)
    return np.stack(found)
