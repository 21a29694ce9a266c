"""An exported graph in ONNX Runtime: loaded with checks (`Graph`), an engine of decisions (`GraphEngine`), and run on
buffers that stay in place (`GraphSession`, a `snn_policy.session.Session`).

The file is data: read with a size limit, with no other file beside it, and compared with its description before use.
"""

from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from snn_policy.bundle.files import POLICY_FILE, read_whole, sha256
from snn_policy.errors import SourceError
from snn_policy.exporting.description import CALIBRATION_COSTS, METADATA_KEY, read_description
from snn_policy.exporting.graph_files import check_signature, named_sum, names_of, opened, read_named
from snn_policy.exporting.observation_inputs import split
from snn_policy.protocol import Counters, Decision, FloatArray, IntArray, Mask
from snn_policy.session import SessionInSteps

CPU = ("CPUExecutionProvider",)
ArrayTuple = tuple[FloatArray, ...]


class Outcome(NamedTuple):
    """Hold one call: the action, the memories in the description's order, the counts (rows, columns)."""

    action: npt.NDArray[Any]
    memory: ArrayTuple
    counts: IntArray


class Graph:
    """Run a graph that was loaded and fits its description.

    Attributes:
        path: the file; `sha256`: of its content.
        description: what it says about itself.

    Raises:
        FileNotFoundError: no such file.
        SourceError: not a graph of this package, damaged, or not what its description says.
        ValueError: an execution provider that this ONNX Runtime does not have.
    """

    def __init__(self, path: Path, providers: Sequence[Any] = CPU, threads: int = 1) -> None:
        content = read_named(path)
        self.path, self.sha256 = path, sha256(content)
        self._session = opened(path, content, providers, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.description = read_description(metadata.get(METADATA_KEY))
            check_signature(self._session, self.description)
        except (SourceError, UnicodeDecodeError) as problem:
            raise SourceError(f"{path}: {problem}") from None
        self._inputs, self._outputs = names_of(self.description)

    def run(self, obs: FloatArray, memory: ArrayTuple) -> Outcome:
        """Make one call; nothing given is changed."""
        given = (*self._observed(obs), *memory)
        feeds = {name: np.ascontiguousarray(array) for name, array in zip(self._inputs, given, strict=True)}
        action, *rest = (np.asarray(array) for array in self._session.run(list(self._outputs), feeds))
        counts = rest.pop() if self.description.counted else np.zeros((len(obs), 0), np.int64)
        return Outcome(action, tuple(rest), counts)

    def bound(self, obs: FloatArray, memory: ArrayTuple, outcome: Outcome) -> Any:
        """Return a call without arguments: from these arrays to those."""
        binding, parts = self._session.io_binding(), self._observed(obs)
        for name, array in zip(self._inputs, (*parts, *memory), strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        after = (outcome.action, *outcome.memory, outcome.counts)
        for name, array in zip(self._outputs, after, strict=False):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        session = self._session

        def call() -> None:
            session.run_with_iobinding(binding)

        def call_with_parts() -> None:
            for part, values in zip(parts, self._observed(obs), strict=True):
                part[...] = values
            session.run_with_iobinding(binding)

        return call if self.description.inputs == "joined" else call_with_parts

    def _observed(self, obs: FloatArray) -> list[FloatArray]:
        """Return observations (rows, *shape) as the graph's inputs take them."""
        keys = self.description.observation_keys
        return [obs] if self.description.inputs == "joined" or keys is None else split(obs, keys)


class GraphEngine:
    """Decide by an exported graph; a step graph is called T times for one.

    Attributes:
        graph: as loaded.

    Raises:
        SourceError: a graph without counts.
    """

    def __init__(self, graph: Graph) -> None:
        about = graph.description
        if not about.counted:
            reason = "exported without counts, which a policy must report; export it again with counts"
            raise SourceError(f"{graph.path}: {reason}")
        self.graph, self.calls = graph, about.timesteps if about.graph == "step" else 1
        self._kind = state_type(tuple(name for name, _ in about.memories))
        largest = np.maximum(abs(about.bounds()[0]), abs(about.bounds()[1]))
        self._largest = np.sum(np.square(largest, dtype=np.float64)) * (1 + 1e-6)

    def initial_state(self, n: int) -> Any:
        """Return the state of n rows after a reset: zeros, named as the graph's memories."""
        return self.named(np.zeros((n, width), np.float32) for _, width in self.graph.description.memories)

    def named(self, memory: Iterable[FloatArray]) -> Any:
        """Return the memories as a state."""
        return self._kind(*memory)

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], Any, Decision]:
        """See `snn_policy.session.PureEngine`."""
        self.check_rows(len(obs))
        action, memory, counts = self.graph.run(obs, tuple(state))
        for _ in range(self.calls - 1):
            action, memory, more = self.graph.run(obs, memory)
            counts = counts + more
        self.check_action(action)
        return action, self.named(memory), self.record(counts)

    def session(self, rows: int) -> "GraphSession":
        """See `snn_policy.session.Engine`."""
        self.check_rows(rows)
        return GraphSession(self, rows)

    def check_rows(self, rows: int) -> None:
        """Refuse another batch size than a graph of a fixed one takes."""
        fixed = self.graph.description.batch
        if fixed is not None and rows != fixed:
            raise ValueError(f"observation: a batch of {rows}, but the graph was exported for batches of {fixed}")

    def check_action(self, action: npt.NDArray[Any]) -> None:
        """Refuse what no sound graph gives; one product, because this is part of every decision."""
        if not np.vdot(action, action) <= self._largest * len(action):
            raise SourceError(f"{self.graph.path}: gave an action that is not finite or far out of bounds: {action}")

    def record(self, counts: IntArray) -> Decision:
        """Return the record of these counts, (rows, columns); what the graph does not count of calibration is 0."""
        about, layers = self.graph.description, len(self.graph.description.layers)
        known = dict(zip(about.counted[layers:], counts[:, layers:].T, strict=True))
        for name in CALIBRATION_COSTS:
            known.setdefault(name, np.zeros(len(counts), np.int64))
        macs = np.full(len(counts), about.multiply_accumulates, np.int64)
        return Decision(spikes=counts[:, :layers], multiply_accumulates=macs, **known)


class GraphSession(SessionInSteps):
    """Bind arrays to a graph: two sets of memories that take turns, so that no call copies any. See `Session`."""

    def __init__(self, engine: GraphEngine, rows: int) -> None:
        about = engine.graph.description
        self.rows, self._engine, self._calls = rows, engine, engine.calls
        self._obs = np.zeros((rows, *about.observation_shape), np.float32)
        self._action = np.zeros((rows, *about.action_shape), np.int64 if about.discrete else np.float32)
        counts = np.zeros((rows, len(about.counted)), np.int64)
        sets = [tuple(np.zeros((rows, width), np.float32) for _, width in about.memories) for _ in range(2)]
        self._turns = tuple(
            engine.graph.bound(self._obs, sets[turn], Outcome(self._action, sets[1 - turn], counts)) for turn in (0, 1)
        )
        self._states, self._turn = tuple(map(engine.named, sets)), 0
        self._counts = counts  # of the last call
        self._spent = counts if self._calls == 1 else np.zeros_like(counts)  # in the last decision
        self._counters, self._sums = Counters.zeros(rows, len(about.layers)), np.zeros_like(counts)
        self._uncounted, self._decided = 0, False

    @property
    def state(self) -> Any:
        return self._states[self._turn]

    @property
    def memory(self) -> ArrayTuple:
        return tuple(self.state)

    @property
    def counters(self) -> Counters:
        if self._uncounted:
            spent = self._engine.record(self._sums)
            spent = replace(spent, multiply_accumulates=spent.multiply_accumulates * self._uncounted)
            self._counters.add(spent, decisions=self._uncounted)
            self._sums[...], self._uncounted = 0, 0
        return self._counters

    def run(self, running: Mask | None = None) -> bool:
        if running is not None:
            self._run_some(running)
            return True
        self._advance()
        self._sums += self._spent
        self._uncounted += 1
        return True

    def _run_some(self, running: Mask) -> None:
        kept = [array[~running] for array in self.memory]
        self._advance()
        for own, before in zip(self.memory, kept, strict=True):
            own[~running] = before
        self.counters.add(self._engine.record(self._spent), running)

    def _advance(self) -> None:
        self._call()
        if self._calls > 1:
            self._spent[...] = self._counts
            for _ in range(self._calls - 1):
                self._call()
                self._spent += self._counts
        self._decided = True
        self._engine.check_action(self._action)

    def _call(self) -> None:
        self._turns[self._turn]()
        self._turn = 1 - self._turn

    def actions_like(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return (self._action if obs.shape == self._obs.shape else self._action[0]).copy()

    def decision(self) -> Decision | None:
        return self._engine.record(self._spent.copy()) if self._decided else None

    def store(self, state: Any) -> None:
        for own, given in zip(self.state, state, strict=True):
            own[...] = given


@lru_cache(maxsize=64)
def state_type(names: tuple[str, ...]) -> Any:
    """Return the NamedTuple of a graph's memories; its instances can be pickled."""
    kind: Any = namedtuple("GraphState", names)
    kind.__reduce__ = lambda self: (_restored, (names, tuple(self)))
    return kind


def _restored(names: tuple[str, ...], arrays: ArrayTuple) -> Any:
    return state_type(names)(*arrays)


class NotOfThisPolicy(SourceError):
    """Refuse a graph beside the bundle of a policy that it was not exported from."""


def open_graph(path: Path, providers: Sequence[Any] = CPU, threads: int = 1) -> Graph:
    """Open a graph of the policy whose bundle lies beside it, if one does; also while the two are being replaced.

    Raises:
        NotOfThisPolicy: an older policy's, for example, or the bundle is damaged.
        FileNotFoundError, SourceError, ValueError: see `Graph`.
    """

    def open_and_compare() -> Graph:
        graph = Graph(path, providers, threads)
        if named_sum(path) not in (None, graph.sha256):
            raise NotOfThisPolicy(f"{path}: not exported from the policy in {POLICY_FILE} beside it; export it again")
        return graph

    return read_whole(path.parent, open_and_compare, (NotOfThisPolicy, FileNotFoundError))
