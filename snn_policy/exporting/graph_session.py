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

from snn_policy.bundle.files import POLICY_FILE, name_with_sum, named_graphs, read_document, read_whole, sha256
from snn_policy.errors import SourceError
from snn_policy.exporting.description import CALIBRATION_COSTS, METADATA_KEY, Description, read_description
from snn_policy.exporting.observation_inputs import JOINED, input_name, split
from snn_policy.protocol import Counters, Decision, FloatArray, IntArray, Mask
from snn_policy.session import SessionInSteps

MOST_GRAPH_BYTES = 2**31 - 1
EXTERNAL_DATA = b"\n\x08location"
"""How a tensor that lies in another file names it; exported graphs have none."""
NOWHERE = "/nonexistent-folder-of-external-data"
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
        content = _read_named(path)
        self.path, self.sha256 = path, sha256(content)
        self._session = _open(path, content, providers, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.description = read_description(metadata.get(METADATA_KEY))
            _check_signature(self._session, self.description)
        except (SourceError, UnicodeDecodeError) as problem:
            raise SourceError(f"{path}: {problem}") from None
        self._inputs, self._outputs = _names(self.description)

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


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with: snn-policy export POLICY --out {path.parent}")
    if path.stat().st_size > MOST_GRAPH_BYTES:
        raise SourceError(f"{path}: {path.stat().st_size} bytes, more than the {MOST_GRAPH_BYTES} a graph may have")
    content = path.read_bytes()
    if EXTERNAL_DATA in content:
        raise SourceError(f"{path}: refers to other files for its weights; an exported graph is one file")
    return content


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
        if _named_sum(path) not in (None, graph.sha256):
            raise NotOfThisPolicy(f"{path}: not exported from the policy in {POLICY_FILE} beside it; export it again")
        return graph

    return read_whole(path.parent, open_and_compare, (NotOfThisPolicy, FileNotFoundError))


def _named_sum(path: Path) -> str | None:
    """Return the SHA-256 that `policy.json` beside the graph has for it, "" if it has none; None without the file."""
    if not path.with_name(POLICY_FILE).is_file():
        return None
    return named_graphs(read_document(path.parent) or {}).get(path.name, "")


def _read_named(path: Path) -> bytes:
    """Return the graph's content, or what is about to become it, where `policy.json` names that already."""
    total = _named_sum(path)
    about_to_be = path.with_name(name_with_sum(path.name, total)) if total else path
    if about_to_be.is_file() and not (path.is_file() and sha256(_read(path)) == total):
        return _read(about_to_be)
    return _read(path)


def _open(path: Path, content: bytes, providers: Sequence[Any], threads: int) -> Any:
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    missing = sorted(set(names) - set(onnxruntime.get_available_providers()))
    if missing or not names:
        available = ", ".join(onnxruntime.get_available_providers())
        raise ValueError(f"providers {', '.join(missing) or '()'}: this ONNX Runtime has {available}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers), enable_fallback=0)
    except Exception as problem:  # ONNX Runtime has no common base for what it raises
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(f"{path}: ONNX Runtime cannot load it ({reason}); export the policy again") from None


def _names(about: Description) -> tuple[tuple[str, ...], tuple[str, ...]]:
    memories = [name for name, _ in about.memories]
    inputs = (*(name for name, _ in _observations(about)), *(f"memory.{name}.in" for name in memories))
    outputs = ("action", *(f"memory.{name}.out" for name in memories))
    return inputs, (*outputs, "counts") if about.counted else outputs


def _observations(about: Description) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and the shape of every input for observations."""
    if about.inputs == "joined" or about.observation_keys is None:
        return [(JOINED, about.observation_shape)]
    return [(input_name(key), shape) for key, shape in about.observation_keys]


def _check_signature(session: Any, about: Description) -> None:
    memories = [("tensor(float)", (width,)) for _, width in about.memories]
    inputs = [*(("tensor(float)", shape) for _, shape in _observations(about)), *memories]
    action = "tensor(int64)" if about.discrete else "tensor(float)", about.action_shape
    outputs = [action, *memories, *([("tensor(int64)", (len(about.counted),))] if about.counted else [])]
    names = _names(about)
    for side, wanted, given in ((names[0], inputs, session.get_inputs()), (names[1], outputs, session.get_outputs())):
        found = {argument.name: argument for argument in given}
        if set(found) != set(side):
            raise SourceError(f"expected {', '.join(side)}, found {', '.join(sorted(found))}")
        for name, (kind, shape) in zip(side, wanted, strict=True):
            rows, *rest = found[name].shape or [0]
            fits = rows == about.batch if about.batch else not isinstance(rows, int)
            if found[name].type != kind or tuple(rest) != shape or not fits:
                what = f"{found[name].type} {found[name].shape}"
                raise SourceError(f"{name}: expected {kind} ({about.batch or 'any'}, …{shape}), found {what}")
