"""ONNX files and the weights beside them, as one model in memory; nothing else is ever opened.

Exporters store large weights in NAME.onnx.data and note in every tensor where they begin. Both files are untrusted:
such a note may name a plain file in the graph's own folder, and what it promises must be there.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, load

from snn_policy.errors import SourceError
from snn_policy.untrusted_files import LARGEST_WEIGHTS, MEGABYTE, open_regular

DATA_ENDINGS = (".data", "_data")
_REMEDY = "save it in one file (torch.onnx.export(..., external_data=False))"


def read_model(path: Path) -> ModelProto:
    """Read a graph with all of its weights.

    Raises:
        SourceError: weights elsewhere than in a regular file NAME.data of the same folder, or not as long as promised.
    """
    model = load(str(path), load_external_data=False)
    opened: dict[str, BinaryIO] = {}
    wanted = 0
    try:
        for tensor in _tensors(model):
            if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
                continue
            notes = {entry.key: entry.value for entry in tensor.external_data}
            name = notes.get("location", "")
            if name not in opened:
                opened[name] = _open(path, name, tensor.name)
            size = _size(tensor, path)
            wanted += size
            if wanted > LARGEST_WEIGHTS:
                raise SourceError(f"{path}: larger than {LARGEST_WEIGHTS // MEGABYTE} MB, too large for a policy")
            content = _content(opened[name], notes, size, f"{path}: tensor {tensor.name}")
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = content
    finally:
        for file in opened.values():
            file.close()
    return model


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of the model, those of subgraphs, functions and training graphs included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def _open(path: Path, name: str, tensor: str) -> BinaryIO:
    """Return the file of that name beside the graph: no link, no device, no other folder."""
    plain = name == os.path.basename(name) and not name.startswith(".") and "\\" not in name and "\0" not in name
    if not plain or not name.endswith(DATA_ENDINGS):
        remedy = f"only NAME.onnx.data beside the graph is, not {name[:80]!r}: {_REMEDY}"
        raise SourceError(f"{path}: tensor {tensor} lies in another file, which is not read; {remedy}")
    try:
        return open_regular(path.parent / name)
    except SourceError:
        raise SourceError(f"{path}: {name} beside it is not a regular file; {_REMEDY}") from None
    except OSError as problem:
        what = "is missing" if isinstance(problem, FileNotFoundError) else "cannot be read, or is a link"
        raise SourceError(f"{path}: its weights' file {name} beside it {what}; copy both files, or {_REMEDY}") from None


def _size(tensor: TensorProto, path: Path) -> int:
    """Return how many bytes the tensor's shape and type need."""
    if any(length < 0 for length in tensor.dims) or tensor.data_type == TensorProto.STRING:
        raise SourceError(f"{path}: tensor {tensor.name} has no valid shape or type")
    count = 1
    for length in tensor.dims:
        count *= int(length)
    return count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _content(file: BinaryIO, notes: dict[str, str], size: int, title: str) -> bytes:
    try:
        offset = int(notes.get("offset", 0))
        length = int(notes["length"]) if "length" in notes else os.fstat(file.fileno()).st_size - offset
    except ValueError:
        raise SourceError(f"{title}: its place in {file.name} is not a number") from None
    if offset < 0 or length != size:
        raise SourceError(f"{title}: needs {size} bytes, but notes {length} from byte {offset} on")
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise SourceError(f"{title}: needs {size} bytes from byte {offset} on, more than its weights' file holds")
    return content
