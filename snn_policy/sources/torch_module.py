"""Torch modules: traced by torch.fx on a copy, walked from the action back to the observation, checked on random input.

The user's module is neither run nor changed: the copy is put in evaluation mode and loses its hooks.

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
from snn_policy.errors import SourceError, UnsupportedLayerError, needs_extra, warn
from snn_policy.sources.assemble import assemble
from snn_policy.sources.backwards import read_backwards
from snn_policy.sources.families import called
from snn_policy.sources.narrow_casts import refuse_autocast
from snn_policy.sources.no_chain import Asked, otherwise, refuse_several
from snn_policy.sources.operations import Operation
from snn_policy.sources.random_streams import drawing_nothing
from snn_policy.sources.refusals import COMPLEX, refusal
from snn_policy.sources.torch_hidden import refuse_hidden_state
from snn_policy.sources.torch_nodes import REMEDY, TorchNodeReader, remembered, written
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

CHECKED_VALUES = 2**19
_POLICY_NAMES = ("actor", "policy", "pi", "mean", "mu")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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
    twin = _inert_copy(module)
    title = name or type(module).__name__
    asked = Asked(title, observation_shape, low, high, env_id, normaliser)
    try:
        refuse_several(observation_shape)
        operations = _torch_operations(*_trace(twin))
        shape, before = normalised(normaliser, observation_shape)
        actor = assemble([*before, *operations], observation_shape=shape, **asked.facts)
        with drawing_nothing(twin):
            given, dtype = _check(actor, twin, title, normaliser)
        fresh = _inert_copy(module, told=False)
        refuse_hidden_state(fresh, lambda part: _output(part, given, dtype).double().numpy(), title)
    except (UnsupportedLayerError, SourceError) as refused:
        from snn_policy.sources.torch_graph import read_module_graph

        first = refused
        again = lambda: read_module_graph(_inert_copy(module, told=False), asked, output)  # noqa: E731
        return called(lambda: otherwise(first, again), lambda: _names(module))
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


def _inert_copy(module: "nn.Module", told: bool = True) -> "nn.Module":
    """Return a copy on the CPU, in evaluation mode, without hooks, which a warning names where they are `told`."""
    import torch

    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayerError("module", kind, "a scripted module cannot be traced", "Pass the original module")
    module = getattr(module, "_orig_mod", module)  # torch.compile
    _refuse_computed_weights(module)
    try:
        twin = copy.deepcopy(module, _states_without_history(module))
    except Exception as problem:
        raise UnsupportedLayerError("module", kind, f"it cannot be copied ({_line(problem)})", REMEDY) from problem
    hooked = set()
    for path, part in twin.named_modules():
        for hooks in (getattr(part, key, {}) for key in _HOOKS):
            hooked |= {path or "module"} if hooks else set()
            hooks.clear()
    if hooked and told:
        warn(f"hooks on {', '.join(sorted(hooked))} are not part of the conversion")
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        if tensor.is_complex():
            raise UnsupportedLayerError(name, *COMPLEX)
    return twin.cpu().eval()


def _states_without_history(module: "nn.Module") -> dict[int, Any]:
    """Return copies, by identity, of tensors that a forward with gradients left in modules: they cannot be copied."""
    import torch

    held: list[Any] = []
    for part in module.modules():
        for value in (*part._buffers.values(), *vars(part).values()):
            held += value if isinstance(value, tuple | list) else [value]
    tensors = [one for one in held if isinstance(one, torch.Tensor) and not one.is_leaf]
    return {id(one): one.detach().clone() for one in tensors}


def _refuse_computed_weights(module: "nn.Module") -> None:
    for path, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                remedy = "Call torch.nn.utils.remove_weight_norm (or remove_spectral_norm) on it first"
                raise UnsupportedLayerError(path or "module", "weight norm", "a hook computes its weights", remedy)


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


def _torch_operations(graph: "fx.Graph", root: "nn.Module") -> list[Operation]:
    """Return the operations between observation and action, in order of execution."""
    output = next(node for node in graph.nodes if node.op == "output")
    value = output.args[0]
    recurrent = _recurrent(root)
    if recurrent is not None and _depends_on(recurrent[0], graph):
        raise refusal(*recurrent)
    if isinstance(value, tuple | list | dict):
        kind = type(value).__name__
        remedy = "Wrap it so that forward returns the deterministic action only"
        raise UnsupportedLayerError("forward", kind, "it returns several values", remedy)
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
) -> "tuple[torch.Tensor, torch.dtype]":
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
        own = _output(twin, torch.as_tensor(given), dtype).double().numpy()
    except Exception as problem:
        raise SourceError(f"{name}: its forward fails on observations {shape} ({_line(problem)})") from problem
    actions, _ = actor.step(observations, ())
    precision = max(1e-3, 4 * torch.finfo(dtype).eps)
    if actor.discrete:
        agree = own.size == actions.size and float(np.mean(own.reshape(actions.shape) == actions)) > 0.9
    else:
        own = np.clip(own, actor.low, actor.high) if own.shape == actions.shape else own
        agree = own.shape == actions.shape and np.abs(own - actions).max() <= precision * (1 + np.abs(own).max())
    if not agree:
        reason = "its output differs from what its layers, as traced, compute"
        raise UnsupportedLayerError("forward", name, reason, "Avoid in-place operations, randomness and hidden state")
    return torch.as_tensor(given), dtype


def _output(twin: "nn.Module", given: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Return what the copy makes of observations: in its own precision, half ones in float32 where allowed."""
    import torch

    with torch.no_grad():
        if dtype in (torch.bfloat16, torch.float16):
            try:
                return copy.deepcopy(twin).float()(given.float())
            except RuntimeError:
                pass  # it casts by itself
        return twin(given.to(dtype))


def _line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
