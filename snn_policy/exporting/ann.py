"""An actor as a plain ONNX graph: the ANN that spiking decisions are timed against. Needs `onnx`.

Its own array-API code is traced, as the spiking networks' is, and written with ONNX's operators for activations, so
that the baseline of every published ratio computes what the actor computes and nothing else: no node of it could be
left out, and it is no slower than what `torch.onnx.export` makes of the same network.
"""

from snn_policy.actor import Actor
from snn_policy.exporting.model import model_bytes
from snn_policy.exporting.peephole import simplified
from snn_policy.exporting.tracing import Graph, Traced


def actor_onnx(actor: Actor) -> bytes:
    """Return the actor's forward pass, normaliser and head included: input `obs` (N, *shape), output `action`.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    traced = actor.head(actor.activations(Graph().input("obs", actor.observation_shape))[1])
    action = simplified(traced, [layer.activation for layer in actor.hidden if layer.activation is not None])
    obs = Traced(action.graph, (action.graph.batch, *actor.observation_shape), "float32", name="obs")
    return model_bytes("actor", [obs], {"action": action}, {})
