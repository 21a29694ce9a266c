"""An exported graph in ONNX Runtime: loaded with checks, and run on buffers that stay in place.

The file is data: read with a size limit, with no other file beside it, and compared with its description before use.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from snn_policy.bundle_files import POLICY_FILE, name_with_sum, named_graphs, read_document, read_whole, sha256
from snn_policy.errors import SourceError
from snn_policy.exporting.description import METADATA_KEY, Description, read_description
from snn_policy.protocol import FloatArray, IntArray

MOST_GRAPH_BYTES = 2**31 - 1
EXTERNAL_DATA = b"\n\x08location"
"""How a tensor that lies in another file names it; exported graphs have none."""
NOWHERE = "/nonexistent-folder-of-external-data"
CPU = ("CPUExecutionProvider",)
ArrayTuple = tuple[FloatArray, ...]


class Outcome(NamedTuple):
    """One call: the action, the memories in the description's order, the counts (rows, columns)."""

    action: npt.NDArray[Any]
    memory: ArrayTuple
    counts: IntArray


class GraphSession:
    """A graph that was loaded and fits its description.

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
        """One call; nothing given is changed."""
        feeds = {name: np.ascontiguousarray(each) for name, each in zip(self._inputs, (obs, *memory), strict=True)}
        action, *rest = (np.asarray(each) for each in self._session.run(list(self._outputs), feeds))
        counts = rest.pop() if self.description.counted else np.zeros((len(obs), 0), np.int64)
        return Outcome(action, tuple(rest), counts)

    def buffers(self, rows: int) -> "GraphBuffers":
        """Buffers to call it in place with that many rows, all zero."""
        return GraphBuffers(self, rows)

    def bound(self, obs: FloatArray, memory: ArrayTuple, outcome: Outcome) -> Any:
        """A call without arguments: from these arrays to those."""
        binding = self._session.io_binding()
        for name, array in zip(self._inputs, (obs, *memory), strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        after = (outcome.action, *outcome.memory, outcome.counts)
        for name, array in zip(self._outputs, after, strict=False):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        session = self._session

        def call() -> None:
            session.run_with_iobinding(binding)

        return call


class GraphBuffers:
    """Arrays bound to a graph: two sets of memories that take turns, so that no call copies any.

    Attributes:
        obs: (rows, *observation_shape), to be filled before `advance`.
        action, counts: of the last call.
    """

    def __init__(self, session: GraphSession, rows: int) -> None:
        about = session.description
        self.obs = np.zeros((rows, *about.observation_shape), np.float32)
        self.action = np.zeros((rows, *about.action_shape), np.int64 if about.discrete else np.float32)
        self.counts = np.zeros((rows, len(about.counted)), np.int64)
        sets = [tuple(np.zeros((rows, width), np.float32) for _, width in about.memories) for _ in range(2)]
        self._memories = tuple(sets)
        self._calls = tuple(
            session.bound(self.obs, sets[turn], Outcome(self.action, sets[1 - turn], self.counts)) for turn in (0, 1)
        )
        self._turn = 0

    def memory(self, turn: int) -> ArrayTuple:
        """The set that is current after `advance` has returned this turn; at first, that of turn 0."""
        return self._memories[turn]

    def advance(self) -> int:
        """One call; returns the turn that is current now."""
        self._calls[self._turn]()
        self._turn = 1 - self._turn
        return self._turn


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
    """A graph beside the bundle of a policy that it was not exported from."""


def open_graph(path: Path, providers: Sequence[Any] = CPU, threads: int = 1) -> GraphSession:
    """Open a graph of the policy whose bundle lies beside it, if one does; also while the two are being replaced.

    Raises:
        NotOfThisPolicy: an older policy's, for example, or the bundle is damaged.
        FileNotFoundError, SourceError, ValueError: see `GraphSession`.
    """

    def open_and_compare() -> GraphSession:
        session = GraphSession(path, providers, threads)
        if _named_sum(path) not in (None, session.sha256):
            raise NotOfThisPolicy(f"{path}: not exported from the policy in {POLICY_FILE} beside it; export it again")
        return session

    return read_whole(path.parent, open_and_compare, (NotOfThisPolicy, FileNotFoundError))


def _named_sum(path: Path) -> str | None:
    """The SHA-256 that `policy.json` beside the graph has for it, "" if it has none; None without a `policy.json`."""
    if not path.with_name(POLICY_FILE).is_file():
        return None
    return named_graphs(read_document(path.parent) or {}).get(path.name, "")


def _read_named(path: Path) -> bytes:
    """The graph's content, or what is about to become it, where `policy.json` names that already."""
    total = _named_sum(path)
    about_to_be = path.with_name(name_with_sum(path.name, total)) if total else path
    if about_to_be.is_file() and not (path.is_file() and sha256(_read(path)) == total):
        return _read(about_to_be)
    return _read(path)


def _open(path: Path, content: bytes, providers: Sequence[Any], threads: int) -> Any:
    names = [each if isinstance(each, str) else each[0] for each in providers]
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
    inputs = ("obs", *(f"memory.{name}.in" for name in memories))
    outputs = ("action", *(f"memory.{name}.out" for name in memories))
    return inputs, (*outputs, "counts") if about.counted else outputs


def _check_signature(session: Any, about: Description) -> None:
    memories = [("tensor(float)", (width,)) for _, width in about.memories]
    inputs = [("tensor(float)", about.observation_shape), *memories]
    action = "tensor(int64)" if about.discrete else "tensor(float)", about.action_shape
    outputs = [action, *memories, *([("tensor(int64)", (len(about.counted),))] if about.counted else [])]
    names = _names(about)
    for side, wanted, given in ((names[0], inputs, session.get_inputs()), (names[1], outputs, session.get_outputs())):
        found = {each.name: each for each in given}
        if set(found) != set(side):
            raise SourceError(f"expected {', '.join(side)}, found {', '.join(sorted(found))}")
        for name, (kind, shape) in zip(side, wanted, strict=True):
            rows, *rest = found[name].shape or [0]
            fits = rows == about.batch if about.batch else not isinstance(rows, int)
            if found[name].type != kind or tuple(rest) != shape or not fits:
                what = f"{found[name].type} {found[name].shape}"
                raise SourceError(f"{name}: expected {kind} ({about.batch or 'any'}, …{shape}), found {what}")
