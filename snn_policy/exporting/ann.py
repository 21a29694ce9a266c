"""An actor as a plain ONNX graph: the ANN that spiking decisions are timed against. Needs `onnx`.

Its own array-API code is traced, as the spiking networks' is, and written with ONNX's operators for activations, so
that the baseline of every published ratio computes what the actor computes and nothing else: no node of it could be
left out, and it is no slower than what `torch.onnx.export` makes of the same network.
"""

from collections.abc import Iterator

from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import Elementwise, Gru, Lstm, Product
from snn_policy.ann.graph import GraphState
from snn_policy.exporting.model import model_bytes
from snn_policy.exporting.peephole import Gate, simplified
from snn_policy.exporting.tracing import Graph, Traced


def actor_onnx(actor: Actor) -> bytes:
    """Return the actor's forward pass, normaliser and head included: input `obs` (N, *shape), output `action`.

    A recurrent actor's memories, the arrays of its state, are inputs `memory.<name>.in` and outputs
    `memory.<name>.out` beside them, (N, width); zeros are a reset.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    graph = Graph()
    obs, memory = graph.input("obs", actor.observation_shape), _memories(actor, graph)
    y, after = _read(actor, obs, memory)
    names = ["action", *(f"memory.{name}.out" for name in memory)]
    made = simplified([actor.head(y), *(after[name] for name in memory)], _activations(actor))
    shapes = {"obs": actor.observation_shape, **{str(value.name): value.shape[1:] for value in memory.values()}}
    batch = made[0].graph.batch
    inputs = [Traced(made[0].graph, (batch, *shape), "float32", name=name) for name, shape in shapes.items()]
    return model_bytes("actor", inputs, dict(zip(names, made, strict=True)), {})


def _memories(actor: Actor, graph: Graph) -> dict[str, Traced]:
    """Return a recurrent actor's state as inputs; none of others."""
    state = actor.graph.initial_state(1)._asdict() if actor.recurrent else {}
    widths = {name: array.shape[1] for name, array in state.items()}
    return {name: graph.input(f"memory.{name}.in", (width,)) for name, width in widths.items() if width}


def _read(actor: Actor, obs: Traced, memory: dict[str, Traced]) -> tuple[Traced, dict[str, Traced]]:
    if not memory:
        return actor.activations(obs)[1], {}
    nothing = next(iter(memory.values()))[:, :0]
    state = GraphState(*(memory.get(name, nothing) for name in GraphState._fields))
    _, values, after = actor.graph.read(actor.inputs(obs), state)
    assert after is not None
    return values[-1], after._asdict()


def _activations(actor: Actor) -> Iterator[Activation | Gate]:
    for stage in actor.graph.stages:
        cell = stage.cell
        match cell:
            case Elementwise() | Product():
                found = cell.activations if isinstance(cell, Product) else (cell.activation,)
                yield from (one for one in found if one is not None)
            case Gru() | Lstm():
                yield Gate()
