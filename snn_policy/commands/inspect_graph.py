"""A network that is no chain, as `snn-policy inspect` shows it: every stage, what it reads, and what it computes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_policy.ann.activations import Activation
    from snn_policy.ann.cells import Cell
    from snn_policy.ann.graph import Graph
    from snn_policy.ann.stage import Connection, Stage

MOST_LINES = 120
Described = dict[str, Any]


def in_words(activation: "Activation | None") -> str | None:
    """Return an activation's name, with its parameter where that is unusual."""
    if activation is None:
        return None
    return activation.name + (f" ({activation.parameter:g})" if activation.parameter not in (0.0, 1.0) else "")


def described_graph(graph: "Graph") -> list[Described]:
    """Return every stage as plain data, the first one numbered 1; source 0 of a connection is the observation."""
    return [_stage(number, stage) for number, stage in enumerate(graph.stages, 1)]


def _stage(number: int, stage: "Stage") -> Described:
    return {
        "stage": number,
        "cell": type(stage.cell).__name__.lower(),
        "computes": _computes(stage),
        "outputs": stage.width,
        "connections": [_connection(one) for one in stage.connections],
        "starts_at_zero": _starts_at_zero(stage),
        "multiply_accumulates": stage.touched,
        "cell_multiply_accumulates": stage.cell.macs,
    }


def _computes(stage: "Stage") -> str:
    """Return what the cell makes of its inputs: lstm, product, layer norm → elu, sum, linear."""
    cell: Cell = stage.cell
    if cell.kind == "product":
        return " · ".join(in_words(one) or "linear" for one in getattr(cell, "activations", ()))
    if cell.kind in ("gru", "lstm"):
        return cell.kind
    norm, activation = getattr(cell, "norm", None), in_words(getattr(cell, "activation", None))
    parts = ["sum"] if len(stage.connections) > 1 else []
    parts += [] if norm is None else [f"{norm.kind} norm"]
    parts += [] if activation is None else [activation]
    return " → ".join(parts) or "linear"


def _starts_at_zero(stage: "Stage") -> bool:
    starts = (stage.start, getattr(stage.cell, "start", None))
    return not any(start is not None and start.any() for start in starts)


def _connection(one: "Connection") -> Described:
    kind = "Identity" if getattr(one.map, "is_identity", False) else type(one.map).__name__
    weight = getattr(one.map, "weight", None)
    return {
        "source": one.source,
        "delayed": one.delayed,
        "port": one.port,
        "type": kind,
        "inputs": one.map.inputs,
        "outputs": one.map.outputs,
        "weight": None if weight is None else list(weight.shape),
        "multiply_accumulates": one.map.macs,
    }


def graph_lines(stages: list[Described]) -> list[str]:
    """Return the tree: a line per stage, and one per connection below it where it has several."""
    lines: list[str] = []
    for stage in stages:
        start = "" if stage["starts_at_zero"] else ", starts from learned values"
        own = stage["cell_multiply_accumulates"]
        analog = f", {own:,} analog multiply-accumulates" if own else ""
        head = f"├─ {stage['stage']} {stage['computes']}: {stage['outputs']}{start}{analog}"
        first, *others = stage["connections"]
        if not others:
            lines.append(f"{head}, {_source(first)}{_mapped(first)}")
            continue
        lines.append(head)
        rows = [f"{_source(one)}{_port(one, stage)}{_mapped(one)}" for one in stage["connections"]]
        lines += [f"│  {'└─' if row is rows[-1] else '├─'} {row}" for row in rows]
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"├─ … {len(lines) - MOST_LINES} more lines; --json has all"]


def _source(one: Described) -> str:
    name = f"stage {one['source']}" if one["source"] else "the observation"
    return f"from {name}{', a decision before' if one['delayed'] else ''}"


def _port(one: Described, stage: Described) -> str:
    several = len({other["port"] for other in stage["connections"]}) > 1
    return f", input {one['port']}" if several else ""


def _mapped(one: Described) -> str:
    if one["type"] == "Identity":
        return ": as it is"
    shape = "" if one["weight"] is None else f"   [{'×'.join(map(str, one['weight']))}]"
    return f": {one['type']} {one['inputs']} → {one['outputs']}{shape}"
