"""Actor: a trained policy as plain data (observation normaliser, layers, action head); itself a policy.

Every source format is read into this form, and everything else starts from it. The arrays are read-only,
so no conversion can change the actor it came from.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.ann.layers import Head, Layer, Normaliser
from snn_policy.checks import whole
from snn_policy.protocol import Array, Counters, Decision, KeyedShape, as_batch, as_mask, unbatch


@dataclass(eq=False)
class Actor:
    """Hold a trained policy: normaliser → layers → head. Implements `Policy` without any state of its own.

    Having nothing to remember, it accepts any batch size at any time.

    Attributes:
        layers: the last one has no activation.
        observation_shape: one observation's shape; flattened before the first layer. A `KeyedShape` where it is a
            dictionary of arrays, which every method then takes, too.
        env_id: the environment it was trained on, where known.
        name: where it came from, for messages and plots.
        provenance: what was done to it since, as `compress` does (plain JSON data).
    """

    layers: tuple[Layer, ...]
    head: Head
    observation_shape: tuple[int, ...]
    normaliser: Normaliser | None = None
    env_id: str | None = None
    name: str = "actor"
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    last_decision: Decision | None = field(default=None, init=False, repr=False)
    counters: Counters = field(default_factory=Counters.zeros, init=False, repr=False)

    timesteps = 1

    def __post_init__(self) -> None:
        self.layers = tuple(self.layers)
        if not isinstance(self.observation_shape, KeyedShape):
            self.observation_shape = tuple(self.observation_shape)
        if any(length < 1 for length in self.observation_shape):
            raise ValueError(f"observation shape {self.observation_shape}: expected sizes of at least 1")
        size = math.prod(self.observation_shape)
        for index, layer in enumerate(self.layers):
            if layer.inputs != size:
                raise ValueError(f"layer {index}: takes {layer.inputs} inputs, but gets {size}")
            if (layer.activation is None) != (index == len(self.layers) - 1):
                raise ValueError(f"layer {index}: every layer but the last needs an activation, the last none")
            size = layer.outputs
        if not self.layers or size != self.head.outputs:
            raise ValueError(f"head: takes {self.head.outputs} outputs, but the layers give {size}")
        if self.normaliser is not None and not _broadcasts(self.normaliser.mean.shape, self.observation_shape):
            raise ValueError(f"normaliser: {self.normaliser.mean.shape} does not fit {self.observation_shape}")

    def __repr__(self) -> str:
        """Return one line: its name, its layers' sizes and activations, its head, and its environment."""
        sizes = "×".join(map(str, self.observation_shape))
        hidden = [f"{layer.outputs} {layer.activation.name}" for layer in self.hidden if layer.activation is not None]
        chain = " → ".join([sizes, *hidden, f"{self.head.outputs} {self.head.kind}"])
        known = [] if self.env_id is None else [self.env_id]
        normalised = [] if self.normaliser is None else ["normalises observations"]
        return f"Actor({', '.join([self.name, chain, *normalised, *known])})"

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """Return all layers but the last."""
        return self.layers[:-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Return neurons per stage: the observation, then every hidden layer."""
        return (self.layers[0].inputs, *(layer.outputs for layer in self.hidden))

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Return per stage (groups, neurons per group): a convolution's channels, else single neurons."""
        return (self.layers[0].input_groups, *(layer.groups for layer in self.hidden))

    @property
    def dense_macs(self) -> int:
        """Return multiply-accumulates of one full forward pass, those with weights of zero included."""
        return sum(layer.macs for layer in self.layers)

    @property
    def synapses(self) -> int:
        """Return multiply-accumulates of one full forward pass that leaves out weights of zero."""
        return sum(layer.synapses for layer in self.layers)

    @property
    def discrete(self) -> bool:
        return self.head.discrete

    @property
    def action_shape(self) -> tuple[int, ...]:
        return self.head.action_shape

    @property
    def low(self) -> npt.NDArray[Any]:
        return self.head.low

    @property
    def high(self) -> npt.NDArray[Any]:
        return self.head.high

    def inputs(self, obs: Array) -> Array:
        """Return normalised, flattened observations: (N, *shape) → (N, inputs)."""
        x = obs if self.normaliser is None else self.normaliser(obs)
        return array_namespace(x).reshape(x, (x.shape[0], -1))

    def activations(self, obs: Array) -> tuple[list[Array], Array]:
        """Make one forward pass of (N, *shape): the stages' analog values h_0…h_H, (N, width) each, y (N, outputs)."""
        h, stages = self.inputs(obs), []
        for layer in self.layers:
            stages.append(h)
            z = layer(h)
            h = z if layer.activation is None else layer.activation(z)
        return stages, h

    def reset(self, mask: npt.ArrayLike | None = None, *, num_envs: int | None = None, seed: int | None = None) -> None:
        """Clear the counters, all or those of the masked rows; an actor has no other memory."""
        if mask is None:
            self.counters, self.last_decision = Counters.zeros(), None
            return
        rows = as_mask(mask, len(self.counters.decisions) or None)
        if len(self.counters.decisions):
            self.counters.clear(rows)

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return actions (act_dim,) for one observation, (N, act_dim) for a batch; see `SpikingPolicy.act`."""
        actions, _, decision = self.decide(obs, ())
        rows, stages = decision.spikes.shape
        running = slice(None) if active is None else as_mask(active, rows, "active")
        self.last_decision = decision
        if len(self.counters.decisions) != rows:
            self.counters = Counters.zeros(rows, stages)
        self.counters.add(decision, running)
        return actions

    def decide(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any, Decision]:
        """Do as `step`, and return what it cost, too."""
        batch, batched = as_batch(obs, self.observation_shape)
        stages, y = self.activations(batch)
        none = np.zeros(len(batch), np.int64)
        active_neurons = [(h != 0).astype(np.int64) for h in stages]
        macs = sum((layer.operations(h) for layer, h in zip(self.layers, active_neurons, strict=True)), none)
        nonzero = np.stack([h.sum(axis=1) for h in active_neurons], axis=1)
        return unbatch(self.head(y), batched), state, Decision(nonzero, none, macs, none, none, macs)

    def step(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any]:
        """Return the pure form of `act`; the state is passed through."""
        batch, batched = as_batch(obs, self.observation_shape)
        return unbatch(self.head(self.activations(batch)[1]), batched), state

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Act as Stable-Baselines3's `PolicyPredictor`."""
        return self.act(observation), state

    def initial_state(self, n: int) -> tuple[()]:
        return ()

    @property
    def state(self) -> tuple[()]:
        return ()

    @state.setter
    def state(self, value: Any) -> None:
        if value:
            raise ValueError("an actor has no state: expected ()")

    def collect(
        self,
        env: "str | Callable[[], Any]",
        steps: int = 10_000,
        seed: int = 0,
        noise: float = 0.15,
        progress: bool = False,
    ) -> npt.NDArray[Any]:
        """Record consecutive observations, (steps, *observation_shape), of its own episodes: float32, images uint8.

        Every second episode has action noise (docs/methods.md §1): Gaussian with `noise` half-ranges as its standard
        deviation, or, where actions are discrete, a random choice with probability `noise`.

        Args:
            env: a Gymnasium id, or a function that makes an environment.
            seed: of the first episode; the following count on.

        Raises:
            ValueError: an environment that does not fit; an observation that cannot be used (it names seed and step).
        """
        from snn_policy.environments import make_environment
        from snn_policy.progress import track

        if not whole(steps, 1, 2**31) or not whole(seed, 0, 2**31):
            raise ValueError(f"steps {steps!r}, seed {seed!r}: expected whole numbers of at least 1 and 0")
        environment = make_environment(env, self)
        rng = np.random.default_rng(seed)
        recorded = self._episodes(environment, seed, noise, rng)
        try:
            return np.stack([next(recorded) for _ in track(range(steps), "recording", enabled=progress)])
        finally:
            environment.close()

    def _episodes(self, env: Any, seed: int, noise: float, rng: np.random.Generator) -> Iterator[npt.NDArray[Any]]:
        from snn_policy.observations import EnvironmentRow

        environment, episode = EnvironmentRow(env, self.observation_shape), 0
        while True:
            obs, over = environment.reset(seed + episode), False
            while not over:
                yield obs
                action = self.step(obs, ())[0]
                if episode % 2:
                    action = self.head.disturbed(action, noise, rng)
                obs, _, terminated, truncated = environment.step(action)
                over = terminated or truncated
            episode += 1


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return len(shape) == len(target) and all(one in (1, other) for one, other in zip(shape, target, strict=True))
