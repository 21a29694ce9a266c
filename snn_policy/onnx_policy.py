"""OnnxPolicy: an exported spiking policy, run by ONNX Runtime with nothing but NumPy beside; a `Policy` as others.

robot = OnnxPolicy("run/cheetah")
robot.reset(); action = robot.act(obs)
"""

from collections import namedtuple
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError
from snn_policy.exporting.description import GRAPHS
from snn_policy.graph_session import CPU, GraphSession, open_graph
from snn_policy.numbers import require, whole
from snn_policy.protocol import Counters, Decision, FloatArray, IntArray, as_mask
from snn_policy.stateful import StatefulPolicy, copied

SURELY_USABLE = 1e30
"""A sum of squares below it means that every observation is finite and within bounds."""


class OnnxPolicy(StatefulPolicy):
    """An exported policy: see `StatefulPolicy` for `reset`, `act`, `predict`, `step` and `state`.

    Attributes:
        description: what the graph says about itself.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        graph: str = "decision",
        providers: Sequence[Any] = CPU,
        threads: int = 1,
    ) -> None:
        """Load `decision.onnx`, or `step.onnx` with graph="step", from a directory; or the given .onnx file.

        Args:
            providers: of ONNX Runtime, in the order of preference.
            threads: of one operation; more than one starves control loops.

        Raises:
            FileNotFoundError: no such file.
            SourceError: not an exported policy, damaged, without counts, or beside another policy's bundle.
            ValueError: an unknown graph or provider.
        """
        require(graph in GRAPHS, f"graph {graph!r}: expected one of {', '.join(GRAPHS)}")
        require(whole(threads, 1, 1024), f"threads {threads!r}: expected a whole number of at least 1")
        place = Path(path)
        file = place if place.suffix == ".onnx" else place / f"{graph}.onnx"
        self._options = providers, threads
        self._open(open_graph(file, providers, threads))

    def _open(self, session: GraphSession) -> None:
        if not session.description.counted:
            reason = "exported without counts, which a policy must report; export it again with counts"
            raise SourceError(f"{session.path}: {reason}")
        self._graph, self.description = session, session.description
        self._kind = state_type(tuple(name for name, _ in self.description.memories))
        self._calls = self.description.timesteps if self.description.graph == "step" else 1
        self._layers = len(self.description.layers)
        self._low, self._high = self.description.bounds()
        self._largest = np.sum(np.square(np.maximum(abs(self._low), abs(self._high)), dtype=np.float64)) * (1 + 1e-6)
        super().__init__()
        self._start(self.description.batch or 1, size_is_open=True)

    def __repr__(self) -> str:
        about = self.description
        return f"OnnxPolicy({about.name}, {about.neuron}, graph={about.graph}, timesteps={about.timesteps})"

    @property
    def sha256(self) -> str:
        """SHA-256 of the graph's file."""
        return self._graph.sha256

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def env_id(self) -> str | None:
        return self.description.env_id

    @property
    def observation_shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.description.observation_shape

    @property
    def action_shape(self) -> tuple[int, ...]:
        return self.description.action_shape

    @property
    def discrete(self) -> bool:
        return self.description.discrete

    @property
    def low(self) -> npt.NDArray[Any]:
        return self._low

    @property
    def high(self) -> npt.NDArray[Any]:
        return self._high

    @property
    def timesteps(self) -> int:
        return self.description.timesteps

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.description.layers

    @property
    def counters(self) -> Counters:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Sums of all decisions since each row's reset."""
        if self._uncounted:
            sums, decisions, self._uncounted = self._counters, self._uncounted, 0
            spent = self._decision(self._sums)
            sums.decisions += decisions
            sums.spikes += spent.spikes
            sums.synaptic_operations += spent.synaptic_operations
            sums.multiply_accumulates += spent.multiply_accumulates * decisions
            self._sums[...] = 0
        return self._counters

    @counters.setter
    def counters(self, value: Counters) -> None:
        self._counters, self._uncounted = value, 0

    @property
    def last_decision(self) -> Decision | None:
        """What the last decision cost; None before the first one and after a reset of all rows."""
        if self._last_decision is None and self._acted:
            self._last_decision = self._decision(self._spent.copy())
        return self._last_decision

    def _decision(self, counts: IntArray) -> Decision:
        """The record of these counts, (rows, columns)."""
        rows, layers = len(counts), self._layers
        none = np.zeros(rows, np.int64)
        calibration = (counts[:, -2], counts[:, -1]) if counts.shape[1] > layers + 1 else (none, none)
        macs = none + self.description.multiply_accumulates
        return Decision(counts[:, :layers], counts[:, layers], macs, *calibration)

    def initial_state(self, n: int) -> Any:
        """The state of n rows after a reset: zeros, named as the graph's memories."""
        return self._kind(*(np.zeros((n, width), np.float32) for _, width in self.description.memories))

    def _decide(self, batch: FloatArray, state: Any) -> tuple[npt.NDArray[Any], Any, Decision]:
        self._check_rows(len(batch))
        action, memory, counts = self._graph.run(batch, tuple(state))
        for _ in range(self._calls - 1):
            action, memory, more = self._graph.run(batch, memory)
            counts = counts + more
        self._check_action(action)
        return action, self._kind(*memory), self._decision(counts)

    def _check_action(self, action: npt.NDArray[Any]) -> None:
        """Refuse what no sound graph gives; one product, because this is part of every decision."""
        if not np.vdot(action, action) <= self._largest * len(action):
            raise SourceError(f"{self._graph.path}: gave an action that is not finite or far out of bounds: {action}")

    def _check_rows(self, rows: int) -> None:
        fixed = self.description.batch
        if fixed is not None and rows != fixed:
            raise ValueError(f"observation: a batch of {rows}, but the graph was exported for batches of {fixed}")

    def _start(self, rows: int, size_is_open: bool) -> None:
        self._check_rows(rows)
        super()._start(rows, size_is_open)
        self._buffers = buffers = self._graph.buffers(rows)
        self._states = self._kind(*buffers.memory(0)), self._kind(*buffers.memory(1))
        self._state = self._states[0]
        self._sums = np.zeros_like(buffers.counts)
        self._spent = buffers.counts if self._calls == 1 else np.zeros_like(buffers.counts)
        self._action, self._acted = buffers.action, False
        self._one_row = buffers.obs[0] if rows == 1 else buffers.obs

    def _store(self, state: Any) -> None:
        assert self._state is not None
        for own, given in zip(self._state, state, strict=True):
            own[...] = given
        self._size_is_open = False

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        buffers = self._buffers
        if type(obs) is np.ndarray and obs.dtype in (np.float32, np.float64):
            place = buffers.obs if obs.shape == buffers.obs.shape else self._one_row
            everywhere = active is None or as_mask(active, len(buffers.obs), "active").all()
            if obs.shape == place.shape and everywhere and np.vdot(obs, obs) < SURELY_USABLE:
                place[...] = obs
                self._advance()
                self._check_action(self._action)
                return self._action.copy() if place is buffers.obs else self._action[0].copy()
        return super().act(obs, active=active)

    act.__doc__ = StatefulPolicy.act.__doc__

    def _advance(self) -> None:
        """One decision of all rows, in place."""
        buffers = self._buffers
        turn = buffers.advance()
        if self._calls > 1:
            self._spent[...] = buffers.counts
            for _ in range(self._calls - 1):
                turn = buffers.advance()
                self._spent += buffers.counts
        self._state = self._states[turn]
        self._sums += self._spent
        self._uncounted += 1
        self._size_is_open, self._last_decision, self._acted = False, None, True

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: they read the same file again, and go on from the same memory."""
        return {
            "file": (self._graph.path.absolute(), *self._options, self._graph.sha256),
            "state": tuple(copied(self._state)) if self._state is not None else (),
            "counters": self.counters.copy(),
            "rest": (self._size_is_open, self.last_decision, self._unconfirmed),
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        path, providers, threads, sha256 = saved["file"]
        session = open_graph(path, providers, threads)
        if session.sha256 != sha256:
            raise SourceError(f"{path}: not the graph that the pickled policy ran; load the policy anew")
        self._options = providers, threads
        self._open(session)
        self._start(len(saved["state"][0]), size_is_open=False)
        self._store(saved["state"])
        self._counters.restore(saved["counters"])
        self._size_is_open, self._last_decision, self._unconfirmed = saved["rest"]


@lru_cache(maxsize=64)
def state_type(names: tuple[str, ...]) -> Any:
    """The NamedTuple of a graph's memories; its instances can be pickled."""
    kind: Any = namedtuple("GraphState", names)
    kind.__reduce__ = lambda self: (_restored, (names, tuple(self)))
    return kind


def _restored(names: tuple[str, ...], arrays: tuple[FloatArray, ...]) -> Any:
    return state_type(names)(*arrays)
