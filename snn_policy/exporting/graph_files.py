"""Exported graphs as files: read with a size limit, opened in ONNX Runtime, compared with their description."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from snn_policy.bundle.files import POLICY_FILE, name_with_sum, named_graphs, read_document, sha256
from snn_policy.errors import SourceError
from snn_policy.exporting.description import Description
from snn_policy.exporting.observation_inputs import JOINED, input_name

MOST_GRAPH_BYTES = 2**31 - 1
EXTERNAL_DATA = b"\n\x08location"
"""How a tensor that lies in another file names it; exported graphs have none."""
NOWHERE = "/nonexistent-folder-of-external-data"


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with: snn-policy export POLICY --out {path.parent}")
    if path.stat().st_size > MOST_GRAPH_BYTES:
        raise SourceError(f"{path}: {path.stat().st_size} bytes, more than the {MOST_GRAPH_BYTES} a graph may have")
    content = path.read_bytes()
    if EXTERNAL_DATA in content:
        raise SourceError(f"{path}: refers to other files for its weights; an exported graph is one file")
    return content


def named_sum(path: Path) -> str | None:
    """Return the SHA-256 that `policy.json` beside the graph has for it, "" if it has none; None without the file."""
    if not path.with_name(POLICY_FILE).is_file():
        return None
    return named_graphs(read_document(path.parent) or {}).get(path.name, "")


def read_named(path: Path) -> bytes:
    """Return the graph's content, or what is about to become it, where `policy.json` names that already."""
    total = named_sum(path)
    about_to_be = path.with_name(name_with_sum(path.name, total)) if total else path
    if about_to_be.is_file() and not (path.is_file() and sha256(_read(path)) == total):
        return _read(about_to_be)
    return _read(path)


def opened(path: Path, content: bytes, providers: Sequence[Any], threads: int) -> Any:
    """Return a session of ONNX Runtime; raise `SourceError` where it cannot load the graph."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    missing = sorted(set(names) - set(onnxruntime.get_available_providers()))
    if missing or not names:
        available = ", ".join(onnxruntime.get_available_providers())
        raise ValueError(f"providers {', '.join(missing) or '()'}: this ONNX Runtime has {available}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what goes wrong is raised
    # planning which buffers may be shared takes time quadratic in the nodes (1.5 s for 1,400), and saves none later
    options.enable_mem_reuse = False
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers), enable_fallback=0)
    except Exception as problem:  # ONNX Runtime has no common base for what it raises
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(f"{path}: ONNX Runtime cannot load it ({reason}); export the policy again") from None


def names_of(about: Description) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and of the outputs."""
    memories = [name for name, _ in about.memories]
    inputs = (*(name for name, _ in observations_of(about)), *(f"memory.{name}.in" for name in memories))
    outputs = ("action", *(f"memory.{name}.out" for name in memories))
    return inputs, (*outputs, "counts") if about.counted else outputs


def observations_of(about: Description) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and the shape of every input for observations."""
    if about.inputs == "joined" or about.observation_keys is None:
        return [(JOINED, about.observation_shape)]
    return [(input_name(key), shape) for key, shape in about.observation_keys]


def check_signature(session: Any, about: Description) -> None:
    """Raise `SourceError` where inputs and outputs are not those of the description."""
    memories = [("tensor(float)", (width,)) for _, width in about.memories]
    inputs = [*(("tensor(float)", shape) for _, shape in observations_of(about)), *memories]
    action = "tensor(int64)" if about.discrete else "tensor(float)", about.action_shape
    outputs = [action, *memories, *([("tensor(int64)", (len(about.counted),))] if about.counted else [])]
    names = names_of(about)
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
