"""Actor: a trained policy as plain data (observation normaliser, graph of stages, action head); itself a policy.

Every source format is read into this form, and everything else starts from it. The arrays are read-only,
so no conversion can change the actor it came from.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.ann.graph import Graph, GraphState
from snn_policy.ann.layers import Head, Layer, Normaliser
from snn_policy.ann.memory import GraphMemory, cleared, copied, refuse_both
from snn_policy.ann.select import Select
from snn_policy.checks import whole
from snn_policy.protocol import Array, Counters, Decision, FloatArray, KeyedShape, as_batch, as_mask, unbatch


@dataclass(eq=False)
class Actor:
    """Hold a trained policy: normaliser → graph of stages → head. Implements `Policy`.

    Unless its graph is recurrent, it has nothing to remember and accepts any batch size at any time.

    Attributes:
        graph: its stages; a sequence of layers, the last one without activation, is taken for their chain.
        observation_shape: one observation's shape; flattened before the first layer. A `KeyedShape` where it is a
            dictionary of arrays, which every method then takes, too.
        env_id: the environment it was trained on, where known.
        name: where it came from, for messages and plots.
        provenance: what was done to it since, as `compress` does (plain JSON data).
    """

    graph: Graph
    head: Head
    observation_shape: tuple[int, ...]
    normaliser: Normaliser | None = None
    env_id: str | None = None
    name: str = "actor"
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    last_decision: Decision | None = field(default=None, init=False, repr=False)
    counters: Counters = field(default_factory=Counters.zeros, init=False, repr=False)
    _memory: GraphMemory = field(init=False, repr=False)

    timesteps = 1

    if TYPE_CHECKING:  # what the dataclass makes, but for the layers that are taken for a graph

        def __init__(
            self,
            graph: Graph | Sequence[Layer],
            head: Head,
            observation_shape: tuple[int, ...],
            normaliser: Normaliser | None = None,
            env_id: str | None = None,
            name: str = "actor",
            provenance: Mapping[str, Any] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Graph):
            self.graph = Graph.chain(tuple(self.graph))
        if not isinstance(self.observation_shape, KeyedShape):
            self.observation_shape = tuple(self.observation_shape)
        if any(length < 1 for length in self.observation_shape):
            raise ValueError(f"observation shape {self.observation_shape}: expected sizes of at least 1")
        self._memory = GraphMemory(self.graph)
        size = math.prod(self.observation_shape)
        if self.graph.inputs != size:
            raise ValueError(f"layer 0: takes {self.graph.inputs} inputs, but gets {size}")
        if self.graph.outputs != self.head.outputs:
            raise ValueError(f"head: takes {self.head.outputs} outputs, but the layers give {self.graph.outputs}")
        if self.normaliser is not None and not _broadcasts(self.normaliser.mean.shape, self.observation_shape):
            raise ValueError(f"normaliser: {self.normaliser.mean.shape} does not fit {self.observation_shape}")

    def __repr__(self) -> str:
        """Return one line: its name, its stages' sizes and activations, its head, and its environment."""
        sizes = "×".join(map(str, self.observation_shape))
        stages = [f"{stage.width} {stage.cell.kind}" for stage in self.graph.stages[:-1]]
        if not self.graph.is_chain:
            stages = [self.graph.kind, *stages] if len(stages) < 8 else [self.graph.kind, f"{len(stages)} stages"]
        chain = " → ".join([sizes, *stages, f"{self.head.outputs} {self.head.kind}"])
        known = [] if self.env_id is None else [self.env_id]
        normalised = [] if self.normaliser is None else ["normalises observations"]
        return f"Actor({', '.join([self.name, chain, *normalised, *known])})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles need: they go on from the same memory, in arrays of their own."""
        return {**self.__dict__, "_memory": self._memory.copy(), "counters": self.counters.copy()}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of a chain, the last one without activation; raise `UnsupportedLayerError` of others."""
        return self.graph.layers

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """Return all layers of a chain but the last; raise `UnsupportedLayerError` of others."""
        return self.layers[:-1]

    @property
    def recurrent(self) -> bool:
        """Return whether it remembers anything from one decision to the next."""
        return self.graph.recurrent

    @property
    def widths(self) -> tuple[int, ...]:
        """Return neurons per stage: the observation, then every hidden stage."""
        return self.graph.widths

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Return per stage (groups, neurons per group): a convolution's channels, else single neurons."""
        return self.graph.groups

    @property
    def dense_macs(self) -> int:
        """Return multiply-accumulates of one full forward pass, those with weights of zero included."""
        return self.graph.macs

    @property
    def synapses(self) -> int:
        """Return multiply-accumulates of one full forward pass that leaves out weights of zero."""
        return self.graph.synapses

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

    def activations(self, obs: Array, state: GraphState | None = None) -> tuple[list[Array], Array]:
        """Make one forward pass of (N, *shape): the stages' analog values h_0…h_H, (N, width) each, y (N, outputs).

        A recurrent actor starts from rest where no state is given.
        """
        values = self._read(obs, state)[0]
        return values[:-1], values[-1]

    def _read(self, obs: Array, state: GraphState | None) -> tuple[list[Array], GraphState | None]:
        x = self.inputs(obs)
        if self.recurrent and state is None:
            state = self.graph.initial_state(x.shape[0])
        _, values, after = self.graph.read(x, state)
        return values, after

    def reset(self, mask: npt.ArrayLike | None = None, *, num_envs: int | None = None, seed: int | None = None) -> None:
        """Clear memory and counters, all or those of the masked rows; see `SpikingPolicy.reset`."""
        if mask is None:
            self.counters, self.last_decision = Counters.zeros(), None
            self._memory.reset(num_envs)
            return
        refuse_both(num_envs)
        known = len(self.counters.decisions) or None
        if self.recurrent and not self._memory.size_is_open:
            known = self._memory.rows
        rows = as_mask(mask, known)
        if self.recurrent:
            self._memory.clear(rows)
        if len(self.counters.decisions):
            self.counters.clear(rows)

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return actions (act_dim,) for one observation, (N, act_dim) for a batch; see `SpikingPolicy.act`."""
        batch, batched = as_batch(obs, self.observation_shape)
        if self.recurrent:
            self._memory.adopt(len(batch))
        running = None if active is None else as_mask(active, len(batch), "active")
        actions, after, decision = self._decide(batch, self._memory.state if self.recurrent else None)
        if after is not None:
            self._memory.store(after, running)
        self._count(decision, slice(None) if running is None else running)
        return unbatch(actions, batched)

    def _count(self, decision: Decision, running: Any) -> None:
        rows, stages = decision.spikes.shape
        self.last_decision = decision
        if len(self.counters.decisions) != rows:
            self.counters = Counters.zeros(rows, stages)
        self.counters.add(decision, running)

    def decide(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any, Decision]:
        """Do as `step`, and return what it cost, too."""
        batch, batched = as_batch(obs, self.observation_shape)
        actions, after, decision = self._decide(batch, self._given(state, len(batch)))
        return unbatch(actions, batched), after if self.recurrent else state, decision

    def _decide(
        self, batch: FloatArray, state: GraphState | None
    ) -> tuple[npt.NDArray[Any], GraphState | None, Decision]:
        values, after = self._read(batch, state)
        macs = np.full(len(batch), self.graph.cell_macs, np.int64)
        active_neurons = [(h != 0).astype(np.int64) for h in values[:-1]]
        previous = [] if state is None else self.graph.before(state)
        for stage in self.graph.stages:
            for one in stage.connections:
                told = (previous[one.source] != 0).astype(np.int64) if one.delayed else active_neurons[one.source]
                if not isinstance(one.map, Select):
                    macs = macs + one.map.operations(told)
        none = np.zeros(len(batch), np.int64)
        nonzero = np.stack([h.sum(axis=1) for h in active_neurons], axis=1)
        return self.head(values[-1]), after, Decision(nonzero, none, macs, none, none, macs)

    def step(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any]:
        """Return the pure form of `act`: (observation, state) → (action, new state); nothing in the actor changes.

        Unless the actor is recurrent, the state is passed through.
        """
        batch, batched = as_batch(obs, self.observation_shape)
        values, after = self._read(batch, self._given(state, len(batch)))
        return unbatch(self.head(values[-1]), batched), after if self.recurrent else state

    def _given(self, state: Any, rows: int) -> GraphState | None:
        return self._memory.given(state, rows) if self.recurrent else None

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Act as Stable-Baselines3's `PolicyPredictor`; see `SpikingPolicy.predict`."""
        if not self.recurrent:
            return self.act(observation), state
        batch, batched = as_batch(observation, self.observation_shape)
        starts = np.zeros(len(batch), np.bool_)
        if episode_start is not None:
            starts = as_mask(episode_start, len(batch), "episode_start")
        if state is None:
            if starts.all():
                self._memory.reset()
            self._memory.adopt(len(batch))
        before = self._memory.state if state is None else self._memory.given(state, len(batch))
        actions, after, decision = self._decide(batch, cleared(before, starts))
        assert after is not None
        if state is None:
            self._memory.store(after)
        self._count(decision, slice(None))
        return unbatch(actions, batched), copied(after)

    def initial_state(self, n: int) -> Any:
        """Return the state of n rows after a reset: zeros, () unless the actor is recurrent."""
        return self.graph.initial_state(n) if self.recurrent else ()

    @property
    def state(self) -> Any:
        """Return a copy of the memory of all rows; () unless the actor is recurrent."""
        return copied(self._memory.state) if self.recurrent else ()

    @state.setter
    def state(self, value: Any) -> None:
        if self.recurrent:
            shape = np.shape(value[0]) if isinstance(value, tuple | list) and value else ()
            self._memory.store(copied(self._memory.given(value, shape[0] if shape else 1)))
        elif value:
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

        The array is an `EpisodeRecording`: its `episode_starts`, (steps,), say where episodes begin. Every second
        episode has action noise (docs/methods.md §1): Gaussian with `noise` half-ranges as its standard deviation, or,
        where actions are discrete, a random choice with probability `noise`.

        Args:
            env: a Gymnasium id, or a function that makes an environment.
            seed: of the first episode; the following count on.

        Raises:
            ValueError: an environment that does not fit; an observation that cannot be used (it names seed and step).
        """
        from snn_policy.calibration.episodes import EpisodeRecording
        from snn_policy.environments import make_environment
        from snn_policy.progress import track

        if not whole(steps, 1, 2**31) or not whole(seed, 0, 2**31):
            raise ValueError(f"steps {steps!r}, seed {seed!r}: expected whole numbers of at least 1 and 0")
        environment = make_environment(env, self)
        rng = np.random.default_rng(seed)
        recorded = self._episodes(environment, seed, noise, rng)
        try:
            rows = [next(recorded) for _ in track(range(steps), "recording", enabled=progress)]
            return EpisodeRecording(np.stack([obs for obs, _ in rows]), np.array([begins for _, begins in rows]))
        finally:
            environment.close()

    def _episodes(
        self, env: Any, seed: int, noise: float, rng: np.random.Generator
    ) -> Iterator[tuple[npt.NDArray[Any], bool]]:
        """Yield observations, and whether each begins an episode."""
        from snn_policy.observations import EnvironmentRow

        environment, episode = EnvironmentRow(env, self.observation_shape), 0
        while True:
            obs, over, state = environment.reset(seed + episode), False, self.initial_state(1)
            begins = True
            while not over:
                yield obs, begins
                begins = False
                action, state = self.step(obs, state)
                if episode % 2:
                    action = self.head.disturbed(action, noise, rng)
                obs, _, terminated, truncated = environment.step(action)
                over = terminated or truncated
            episode += 1


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return len(shape) == len(target) and all(one in (1, other) for one, other in zip(shape, target, strict=True))
