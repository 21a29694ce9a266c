"""Torch modules: traced by torch.fx on a copy, walked from the action back to the observation, checked on random input.

The user's module is neither run nor changed: the copy is put in evaluation mode and loses its hooks. Another keeps them
for a comparison.

`torch.export` was tried: it needs an example, whose shape a module does not tell, takes 2.6 s for what torch.fx traces
in 0.02 s, and its operators (`aten.…`) would need a second list of names, weights among the graph's inputs.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, needs_extra
from snn_policy.sources.assemble import assemble
from snn_policy.sources.backwards import read_backwards
from snn_policy.sources.families import called
from snn_policy.sources.narrow_casts import refuse_autocast
from snn_policy.sources.no_chain import Asked, Decisive, otherwise, refuse_several
from snn_policy.sources.operations import Operation
from snn_policy.sources.random_streams import drawing_nothing
from snn_policy.sources.refusals import refusal
from snn_policy.sources.several_results import quietly_chosen
from snn_policy.sources.torch_hidden import refuse_hidden_state
from snn_policy.sources.torch_hooks import Hooks, inert_copy
from snn_policy.sources.torch_nodes import REMEDY, TorchNodeReader, remembered, written
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

CHECKED_VALUES = 2**19
_POLICY_NAMES = ("actor", "policy", "pi", "mean", "mu")


def read_torch_module(
    module: "nn.Module",
    *,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    name: str | None = None,
    output: str | None = None,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read a module whose forward maps (N, *observation_shape) to actions (N, act_dim), or to their argmax.

    Its action is clipped to [low, high] where given; `normaliser` acts on observations before it does. Recurrent states
    that it takes and returns are memories; of several other results, `output` is the action, by its name or number.

    Raises:
        UnsupportedLayerError: forward is not one chain of supported layers, or cannot be traced.
        SourceError: weights that are not finite or do not fit each other.
    """
    try:
        import torch  # noqa: F401
    except ImportError as problem:
        raise needs_extra("torch") from problem
    _require_forward(module)
    twin, hooks = inert_copy(module), Hooks(module)
    title = name or type(module).__name__
    asked = Asked(title, observation_shape, low, high, env_id, normaliser)
    try:
        refuse_several(observation_shape)
        operations = _torch_operations(*_trace(twin), output)
        shape, before = normalised(normaliser, observation_shape)
        actor = assemble([*before, *operations], observation_shape=shape, **asked.facts)
        with drawing_nothing(twin):
            given, dtype = _check(actor, twin, title, normaliser)
        fresh = inert_copy(module, told=False)
        refuse_hidden_state(fresh, lambda part: _decided(part, given, dtype), title)
    except (UnsupportedLayerError, SourceError) as refused:
        from snn_policy.sources.torch_graph import read_module_graph

        first = refused
        again = lambda: read_module_graph(inert_copy(module, told=False), asked, output, hooks)  # noqa: E731
        try:
            return called(lambda: otherwise(first, again), lambda: _names(module))
        except Decisive as problem:
            raise problem.error from None
    decider = lambda own: lambda row: _decided(own, row.reshape(1, *actor.observation_shape), dtype)  # noqa: E731
    hooks.compare(actor, decider, normaliser, _precision(dtype))
    return actor


def _names(module: "nn.Module") -> Iterator[str]:
    """Yield what the module's inputs, parts and weights are called."""
    yield from list(inspect.signature(module.forward).parameters)
    for path, part in module.named_modules():
        yield from (path, type(part).__name__)
    yield from (name for name, _ in module.named_parameters())
    yield from (name for name, _ in module.named_buffers())


def _require_forward(module: "nn.Module") -> None:
    """Refuse a module without a forward, and name the parts that could be the policy."""
    own = inspect.getattr_static(type(module), "forward")
    if getattr(own, "__name__", "") != "_forward_unimplemented" or "forward" in vars(module):
        return
    likely = [name for name, _ in module.named_children() if any(word in name.lower() for word in _POLICY_NAMES)]
    remedy = "Pass a module whose forward maps the observation to the deterministic action"
    if likely:
        parts = " or ".join(f"agent.{name}" for name in likely)
        remedy = f"Pass the part that makes the deterministic action ({parts}?), or wrap it in a module with a forward"
    raise UnsupportedLayerError("forward", type(module).__name__, "it has no forward", remedy)


def _recurrent(module: "nn.Module") -> tuple[str, str] | None:
    """Return the path and type of the first recurrent layer."""
    from torch import nn

    found = (pair for pair in module.named_modules() if isinstance(pair[1], nn.RNNBase | nn.RNNCellBase))
    return next(((path or "module", type(layer).__name__) for path, layer in found), None)


def _trace(twin: "nn.Module") -> "tuple[fx.Graph, nn.Module]":
    """Return the graph, and the module whose parts it names."""
    from torch import fx, nn

    from snn_policy.ann.qcfs import QCFS

    class PolicyTracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            if isinstance(m, QCFS):
                return True
            return type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)

        def create_node(self, kind: str, target: Any, *arguments: Any, **named: Any) -> fx.Node:
            if kind.startswith("call"):
                refuse_autocast("forward", str(target))
            return super().create_node(kind, target, *arguments, **named)

    parameters = list(inspect.signature(twin.forward).parameters.values())
    optional = {
        parameter.name: parameter.default for parameter in parameters[1:] if parameter.default is not parameter.empty
    }
    kind = type(twin).__name__
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    recurrent = _recurrent(twin)
    if any(parameter.default is parameter.empty and parameter.kind not in variadic for parameter in parameters[1:]):
        if recurrent is not None:
            raise refusal(*recurrent)
        remedy = "Wrap it so that forward takes the observation only"
        raise UnsupportedLayerError("forward", kind, "it takes several inputs", remedy)
    holder = twin
    if type(twin).__module__.startswith("torch.nn") and not isinstance(twin, nn.Sequential):
        holder = nn.Sequential(twin)  # a bare layer: traced as a layer, not through torch's own forward
    try:
        with drawing_nothing(twin):
            graph = PolicyTracer().trace(holder, concrete_args=optional or None)
    except UnsupportedLayerError:
        raise
    except Exception as problem:
        if recurrent is not None:
            raise refusal(*recurrent) from problem
        reason = f"torch.fx cannot follow it ({_line(problem)})"
        raise UnsupportedLayerError("forward", kind, reason, REMEDY) from problem
    return graph, holder


def _torch_operations(graph: "fx.Graph", root: "nn.Module", chosen: str | None) -> list[Operation]:
    """Return the operations between observation and action, in order of execution; `chosen` is which result that is."""
    output = next(node for node in graph.nodes if node.op == "output")
    value = output.args[0]
    recurrent = _recurrent(root)
    if recurrent is not None and _depends_on(recurrent[0], graph):
        raise refusal(*recurrent)
    if isinstance(value, tuple | list | dict):
        kind = type(value).__name__
        remedy = "Wrap it so that forward returns the deterministic action only"
        raise UnsupportedLayerError("forward", kind, "it returns several values", remedy)
    quietly_chosen(value, chosen)
    reader = TorchNodeReader(graph, root)
    reader.require_observation(value)
    operations = read_backwards(reader.read, value, lambda node: node.op == "placeholder", len(graph.nodes))
    for name in written(root):
        raise remembered(name)
    return operations


def _depends_on(path: str, graph: "fx.Graph") -> bool:
    """Return whether the output depends on a layer."""
    needed, waiting = set(), [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return any(node.op == "call_module" and node.target == path for node in needed)


def _check(
    actor: Actor, twin: "nn.Module", name: str, normaliser: Sequence[ObservationStatistics]
) -> "tuple[npt.NDArray[Any], torch.dtype]":
    """Compare with the copy on random observations, for what a trace cannot see (values changed in place, say).

    Returns:
        What the copy was given, and of what type its weights are.
    """
    import torch

    shape = (min(64, max(8, CHECKED_VALUES // actor.layers[0].inputs)), *actor.observation_shape)
    observations = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if actor.normaliser is not None:
        observations = observations * actor.normaliser.scale + actor.normaliser.mean
    given = observations
    for statistics in normaliser:
        given = statistics.fitted(actor.observation_shape)(given)
    dtype = next((parameter.dtype for parameter in twin.parameters() if parameter.is_floating_point()), torch.float32)
    try:
        own = _decided(twin, given, dtype)
    except Exception as problem:
        raise SourceError(f"{name}: its forward fails on observations {shape} ({_line(problem)})") from problem
    actions, _ = actor.step(observations, ())
    precision = _precision(dtype)
    if actor.discrete:
        agree = own.size == actions.size and float(np.mean(own.reshape(actions.shape) == actions)) > 0.9
    else:
        own = np.clip(own, actor.low, actor.high) if own.shape == actions.shape else own
        agree = own.shape == actions.shape and np.abs(own - actions).max() <= precision * (1 + np.abs(own).max())
    if not agree:
        reason = "its output differs from what its layers, as traced, compute"
        raise UnsupportedLayerError("forward", name, reason, "Avoid in-place operations, randomness and hidden state")
    return given, dtype


def _precision(dtype: "torch.dtype") -> float:
    import torch

    return max(1e-3, 4 * torch.finfo(dtype).eps)


def _decided(twin: "nn.Module", given: npt.NDArray[Any], dtype: "torch.dtype") -> npt.NDArray[np.float64]:
    """Return what the copy makes of observations: in its own precision, half ones in float32 where allowed."""
    import torch

    observations = torch.as_tensor(given)
    with torch.no_grad():
        if dtype in (torch.bfloat16, torch.float16):
            try:
                return copy.deepcopy(twin).float()(observations.float()).double().numpy()
            except RuntimeError:
                pass  # it casts by itself
        return twin(observations.to(dtype)).double().numpy()


def _line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
