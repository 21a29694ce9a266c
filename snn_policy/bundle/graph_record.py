"""A graph of stages as a bundle has it: plain data for `policy.json` and arrays by name, both checked when read.

    actor.graph         {"inputs": n, "stages": [stage, …]}
    stage               {"connections": [connection, …], "cell": cell, "start": whether it has one}
    connection          {"source": stage, "port": number, "delayed": bool, "map": map}
    map                 {"kind": "linear"} · {"kind": "conv2d", "input_shape", "stride", "padding"} ·
                        {"kind": "select"} · {"kind": "identity"}; "weight_shape" where the weights are sparse
    cell                {"kind": "elementwise", "activation", "norm"} · {"kind": "product", "activations"} ·
                        {"kind": "gru"} · {"kind": "lstm"}
    graph.S.C.weight, graph.S.C.bias, graph.S.C.indices      of connection C of stage S (1, 2, …)
    graph.S.norm.scale, graph.S.norm.shift, graph.S.start, graph.S.cell.start

Chains of layers are no graphs here: their layers are stored as every release reads them. A record may ask for no more
memory than its arrays and `MOST_VALUES` allow, whatever numbers it holds.
"""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import Cell, Elementwise, Gru, Lstm, Norm, Product
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Map, Stage
from snn_policy.bundle.sparse import compact_weight, compact_weights, stored_weight
from snn_policy.checks import require, whole

MOST_STAGES, MOST_CONNECTIONS = 1024, 4096
MOST_VALUES = 2**24
"""Inputs and outputs of all connections together."""
MOST_PIXELS = 4096
GEOMETRY = ("input_shape", "stride", "padding")
MAP_KEYS = {
    "linear": {"kind", "weight_shape"},
    "conv2d": {"kind", "weight_shape", *GEOMETRY},
    "select": {"kind"},
    "identity": {"kind"},
}
CELL_KEYS = {"elementwise": {"kind", "activation", "norm"}, "product": {"kind", "activations"},
             "gru": {"kind"}, "lstm": {"kind"}}  # fmt: skip
Arrays = Mapping[str, np.ndarray]
Record = dict[str, Any]


def describe_graph(graph: Graph, arrays: MutableMapping[str, np.ndarray]) -> Record:
    """Return what a bundle says of a graph; its arrays are added to `arrays`.

    Raises:
        ValueError: a graph larger than bundles hold.
    """
    connections = [connection for stage in graph.stages for connection in stage.connections]
    require(
        len(graph.stages) <= MOST_STAGES and len(connections) <= MOST_CONNECTIONS,
        f"graph: {len(graph.stages)} stages with {len(connections)} connections; a bundle holds {MOST_STAGES} and "
        f"{MOST_CONNECTIONS}",
    )
    values = sum(connection.map.inputs + connection.map.outputs for connection in connections)
    require(values <= MOST_VALUES, f"graph: its connections have {values} ends; a bundle holds {MOST_VALUES}")
    stages = [_describe_stage(stage, f"graph.{index}", arrays) for index, stage in enumerate(graph.stages, 1)]
    return {"inputs": graph.inputs, "stages": stages}


def _describe_stage(stage: Stage, place: str, arrays: MutableMapping[str, np.ndarray]) -> Record:
    connections = []
    for index, connection in enumerate(stage.connections):
        described = _describe_map(connection.map, f"{place}.{index}", arrays)
        read = {"source": connection.source, "port": connection.port, "delayed": connection.delayed}
        connections.append({**read, "map": described})
    if stage.start is not None:
        arrays[f"{place}.start"] = stage.start
    cell = _describe_cell(stage.cell, place, arrays)
    return {"connections": connections, "cell": cell, "start": stage.start is not None}


def _describe_map(given: Map, place: str, arrays: MutableMapping[str, np.ndarray]) -> Record:
    if isinstance(given, Select):
        if given.is_identity:
            return {"kind": "identity"}
        arrays[f"{place}.indices"] = given.indices.astype(np.int32)
        return {"kind": "select"}
    arrays[f"{place}.weight"], arrays[f"{place}.bias"] = given.weight, given.bias
    if isinstance(given, Linear):
        return {"kind": "linear"}
    return {"kind": "conv2d", **{name: list(getattr(given, name)) for name in GEOMETRY}}


def _describe_cell(cell: Cell, place: str, arrays: MutableMapping[str, np.ndarray]) -> Record:
    if isinstance(cell, Gru | Lstm):
        arrays[f"{place}.cell.start"] = cell.start
        return {"kind": cell.kind}
    if isinstance(cell, Product):
        return {"kind": "product", "activations": [_describe_activation(one) for one in cell.activations]}
    norm = cell.norm
    if norm is not None:
        arrays[f"{place}.norm.scale"], arrays[f"{place}.norm.shift"] = norm.weight, norm.bias
    said = None if norm is None else {"kind": norm.kind, "epsilon": float(norm.epsilon)}
    return {"kind": "elementwise", "activation": _describe_activation(cell.activation), "norm": said}


def _describe_activation(activation: Activation | None) -> Record | None:
    return None if activation is None else asdict(activation)


def compact(actor: Record, arrays: MutableMapping[str, np.ndarray]) -> bool:
    """Store an actor's weights sparsely where that is smaller, in place; whether any are.

    Args:
        actor: what the document says of it, a chain's layers or a graph.
    """
    if "graph" not in actor:
        return compact_weights(actor["layers"], arrays)
    maps = [(f"{name}.weight", entry) for name, entry in _maps(actor["graph"]) if f"{name}.weight" in arrays]
    return sum(compact_weight(name, entry, arrays) for name, entry in maps) > 0


def _maps(graph: Record) -> Iterator[tuple[str, Record]]:
    for number, stage in enumerate(graph["stages"], 1):
        for index, connection in enumerate(stage["connections"]):
            yield f"graph.{number}.{index}", connection["map"]


def read_graph(record: Any, inputs: int, arrays: Arrays, most_bytes: int) -> Graph:
    """Return the graph that a bundle describes.

    Args:
        inputs: the observation's size.
        most_bytes: that its dense weights may take together.

    Raises:
        KeyError, TypeError, ValueError: it does not fit itself, its arrays or its limits.
    """
    return _Reader(arrays, inputs, most_bytes).graph(_entries(record, "graph", {"inputs", "stages"}))


class _Reader:
    """Read stage by stage; `widths` are those known so far, `values` and `room` what may still be asked for."""

    def __init__(self, arrays: Arrays, inputs: int, room: int) -> None:
        require(whole(inputs, 1, MOST_VALUES), f"graph: {inputs!r} inputs, expected 1 to {MOST_VALUES}")
        self._arrays, self._widths, self._room, self._values = arrays, [inputs], room, MOST_VALUES

    def graph(self, record: Record) -> Graph:
        stages, inputs = record["stages"], self._widths[0]
        require(whole(record["inputs"], inputs, inputs), f"graph: {record['inputs']!r} inputs, expected {inputs}")
        fits = isinstance(stages, list) and 1 <= len(stages) <= MOST_STAGES
        require(fits, f"graph: expected a list of 1 to {MOST_STAGES} stages")
        read, connections = [], 0
        for number, entry in enumerate(stages, 1):
            stage = self._stage(entry, f"graph.{number}")
            connections += len(stage.connections)
            require(connections <= MOST_CONNECTIONS, f"graph: more than {MOST_CONNECTIONS} connections")
            self._widths.append(stage.width)
            read.append(stage)
        return Graph(inputs, tuple(read))

    def _stage(self, entry: Any, place: str) -> Stage:
        stage = _entries(entry, place, {"connections", "cell", "start"})
        given = stage["connections"]
        fits = isinstance(given, list) and 1 <= len(given) <= MOST_CONNECTIONS
        require(fits, f"{place}: expected a list of connections")
        connections = tuple(self._connection(one, f"{place}.{index}") for index, one in enumerate(given))
        start = self._floats(f"{place}.start") if _truth(stage["start"], f"{place}.start") else None
        return Stage(connections, self._cell(stage["cell"], place, connections[0].map.outputs), start)

    def _connection(self, entry: Any, place: str) -> Connection:
        read = _entries(entry, place, {"source", "port", "delayed", "map"})
        source, port, delayed = read["source"], read["port"], _truth(read["delayed"], f"{place}.delayed")
        require(whole(source, 0, MOST_STAGES), f"{place}: source {source!r} is no stage")
        require(whole(port, 0, 7), f"{place}: port {port!r}")
        known = source < len(self._widths)
        require(known or delayed, f"{place}: reads stage {source}, which has told nothing by then")
        made = self._map(read["map"], place, self._widths[source] if known else None)
        return Connection(source, made, delayed, port)

    def _map(self, entry: Any, place: str, width: int | None) -> Map:
        kind = _kind(entry, MAP_KEYS, f"{place}: map")
        _entries(entry, place, MAP_KEYS[kind], missing={"weight_shape"})
        if kind in ("select", "identity"):
            require(width is not None, f"{place}: only linear maps read the decision before")
            assert width is not None
            indices = np.arange(width) if kind == "identity" else self._indices(f"{place}.indices", width)
            self._spend(width + len(indices), place)
            return Select(indices, width)
        if kind == "conv2d":
            self._spend(_pixels(entry["input_shape"], place), place)
        weight = stored_weight(entry, f"{place}.weight", self._arrays, self._room)
        self._room -= weight.size * 4
        fits = self._room >= 0 and weight.dtype in (np.float32, np.float16)
        require(fits, f"{place}.weight: too large, or no floats")
        bias = self._floats(f"{place}.bias")
        if kind == "linear":
            made = Linear(weight, bias)
            self._spend(made.inputs + made.outputs, place)
            return made
        image = Conv2d(weight, bias, *(tuple(entry[name]) for name in GEOMETRY))  # pyright: ignore
        self._spend(image.outputs, place)
        return image

    def _cell(self, entry: Any, place: str, width: int) -> Cell:
        kind = _kind(entry, CELL_KEYS, f"{place}: cell")
        cell = _entries(entry, f"{place}.cell", CELL_KEYS[kind])
        if kind in ("gru", "lstm"):
            return (Gru if kind == "gru" else Lstm)(self._floats(f"{place}.cell.start"))
        if kind == "product":
            given = cell["activations"]
            require(isinstance(given, list) and len(given) == 2, f"{place}: expected two activations")
            return Product(width, (_read_activation(given[0], place), _read_activation(given[1], place)))
        return Elementwise(width, _read_activation(cell["activation"], place), self._norm(cell["norm"], place))

    def _norm(self, entry: Any, place: str) -> Norm | None:
        if entry is None:
            return None
        norm = _entries(entry, f"{place}.norm", {"kind", "epsilon"})
        scale, shift = self._floats(f"{place}.norm.scale"), self._floats(f"{place}.norm.shift")
        return Norm(norm["kind"], scale, shift, norm["epsilon"])

    def _floats(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        fits = array.dtype == np.float32 and array.ndim == 1 and array.size
        require(bool(fits), f"{name}: expected float32 values in one row, got {array.dtype} {array.shape}")
        return array

    def _indices(self, name: str, width: int) -> np.ndarray:
        array = self._arrays[name]
        fits = array.dtype == np.int32 and array.ndim == 1 and array.size
        require(bool(fits), f"{name}: expected int32 values in one row, got {array.dtype} {array.shape}")
        inside = bool((array >= 0).all() and (array < width).all())
        require(inside, f"{name}: entries beyond the {width} that there are")
        return array

    def _spend(self, values: int, place: str) -> None:
        """Take that many of the values that connections may have at their ends."""
        self._values -= values
        require(self._values >= 0, f"{place}: the connections have more than {MOST_VALUES} ends")


def _pixels(shape: Any, place: str) -> int:
    """Return the values of an image."""
    fits = isinstance(shape, Sequence) and len(shape) == 3 and all(whole(size, 1, MOST_PIXELS) for size in shape)
    require(fits, f"{place}: input_shape {shape!r}, expected (channels, height, width)")
    return int(np.prod([int(size) for size in shape], dtype=np.int64))


def _entries(value: Any, place: str, expected: set[str], missing: set[str] | None = None) -> Record:
    """Return a record that has these keys and no others; those in `missing` may be left out."""
    require(isinstance(value, dict), f"{place}: expected a record, got {type(value).__name__}")
    keys = set(value)
    fits = keys <= expected and expected - keys <= (missing or set())
    require(fits, f"{place}: expected {', '.join(sorted(expected))}, got {', '.join(sorted(map(str, keys)))}")
    return value


def _kind(entry: Any, known: Mapping[str, set[str]], place: str) -> str:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    require(isinstance(kind, str) and kind in known, f"{place} {kind!r}, expected {', '.join(known)}")
    return str(kind)


def _truth(value: Any, place: str) -> bool:
    require(isinstance(value, bool), f"{place}: expected true or false, got {value!r}")
    return value


def _read_activation(given: Any, place: str) -> Activation | None:
    if given is None:
        return None
    record = _entries(given, f"{place}.activation", {"name", "parameter", "levels"})
    return Activation(record["name"], record["parameter"], record["levels"])
