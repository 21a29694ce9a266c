"""One node of a torch.fx graph, to primitive operations and the node that its input comes from."""

import operator
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.narrow_casts import CASTS, narrow_weights, refuse_narrow
from snn_policy.sources.operations import Flatten, Operation, Select, Unflatten, activate, affine, clip, scale
from snn_policy.sources.refusals import divided_by_zero, joined, refusal, rounding
from snn_policy.sources.torch_layers import function_operations, layer_operations

REMEDY = "Keep forward free of branches and conversions that depend on values, or pass an ONNX export of the module"
_ALIASES = {
    "iadd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "multiply": "mul", "truediv": "div",
    "itruediv": "div", "divide": "div", "true_divide": "div", "clip": "clamp", "maximum": "clamp_min",
    "minimum": "clamp_max", "mm": "matmul", "negative": "neg",
}  # fmt: skip
_CONSTANT = {
    "add", "sub", "rsub", "mul", "div", "neg", "sqrt", "rsqrt", "exp", "log", "abs", "square", "pow", "reciprocal",
    "clamp", "clamp_min", "clamp_max", "softplus", "getitem", "to", "float", "double", "detach", "clone", "unsqueeze",
    "squeeze", "view", "reshape", "expand", "flatten", "t", "transpose", "tanh", "sigmoid", "getattr", "size",
}  # fmt: skip
_UNCHANGED = {"float", "double", "to", "contiguous", "detach", "clone", "cpu", "type", "type_as", "requires_grad"}
_OF_MOMENTS = {"sqrt", "rsqrt", "add", "pow", "reciprocal", "clamp", "clamp_min"}
_RESHAPES = {"flatten", "view", "reshape"}


class TorchNodeReader:
    """Know which values of the graph depend on the observation; evaluate the others."""

    def __init__(self, graph: fx.Graph, root: nn.Module) -> None:
        self.root, self._narrow, self._written = root, narrow_weights(root), list(written(root))
        self.observed: set[fx.Node] = set()
        for node in graph.nodes:
            if node.op == "placeholder" or any(source in self.observed for source in node.all_input_nodes):
                self.observed.add(node)

        self._refuse_keys(graph)

    def require_observation(self, value: Any) -> None:
        if value not in self.observed:
            raise UnsupportedLayerError("forward", "constant", "its action does not depend on the observation", "")

    def read(self, node: fx.Node) -> tuple[list[Operation], fx.Node]:
        """Return the operations of one node, in order, and the node whose value they take."""
        if node.op == "call_module":
            path, layer = str(node.target), self.root.get_submodule(str(node.target))
            for place in self._written:
                if place.startswith(f"{path}."):
                    raise remembered(place)
            return layer_operations(layer, path), self._only_input(node, path, type(layer).__name__)
        kind, path = self.kind(node), _path(node)
        if not self._narrow:
            self._refuse_narrow(node, kind, path)
        normalisation = self._normalisation(node, kind)
        if normalisation is not None:
            raise refusal(path, normalisation)
        sources = self._sources(node)
        if kind == "mul" and len(sources) == 2:
            gated = self._gated(*sources)
            if gated is None:
                raise joined(path, kind)
            return activate(path, "x * sigmoid(x)", "silu"), gated
        if kind == "getitem":
            return self._selection(node, path)
        source = self._only_input(node, path, kind)
        if kind in _RESHAPES:
            return [self._flatten(node, kind, path)], source
        if kind in _UNCHANGED:
            return self._cast(node, kind, path), source
        arithmetic = self._arithmetic(node, kind, path)
        if arithmetic is not None:
            return arithmetic, source
        arguments = [self.value(argument) for argument in node.args[1:]]
        keywords = {key: self.value(argument) for key, argument in node.kwargs.items() if argument is not source}
        return function_operations(kind, path, arguments, keywords), source

    def kind(self, node: fx.Node) -> str:
        """Return the operation's plain name; functions count only if they are torch's or Python's own."""
        if node.op == "call_method":
            name = str(node.target)
        else:
            target: Any = node.target
            name = getattr(target, "__name__", str(target))
            homes = (torch, F, operator, torch.special, torch.Tensor)
            if target is not getattr and not any(getattr(home, name, None) is target for home in homes):
                return name if name.startswith("_") else f"function {name}"
        name = name.removesuffix("_") if not name.startswith("_") else name
        return _ALIASES.get(name, name)

    def value(self, argument: Any) -> Any:
        """Return an argument that does not depend on the observation, as plain values and tensors."""
        if isinstance(argument, tuple | list):
            return type(argument)(self.value(item) for item in argument)
        if isinstance(argument, slice):
            return slice(self.value(argument.start), self.value(argument.stop), self.value(argument.step))
        if not isinstance(argument, fx.Node):
            return argument
        path = _path(argument)
        if argument in self.observed:
            raise joined(path, self.kind(argument))
        if argument.op == "get_attr":
            if str(argument.target) in self._written:
                raise remembered(str(argument.target))
            found: Any = self.root
            for part in str(argument.target).split("."):
                found = getattr(found, part)
            return found.detach().clone() if isinstance(found, torch.Tensor) else found
        if argument.op not in ("call_function", "call_method") or self.kind(argument) not in _CONSTANT:
            raise refusal(path, self.kind(argument) if argument.op != "call_module" else str(argument.target))
        arguments, keywords = self.value(list(argument.args)), {k: self.value(v) for k, v in argument.kwargs.items()}
        if argument.op == "call_method":
            return getattr(arguments[0], str(argument.target))(*arguments[1:], **keywords)
        function: Callable[..., Any] = argument.target  # pyright: ignore[reportAssignmentType]
        return function(*arguments, **keywords)

    def _refuse_keys(self, graph: fx.Graph) -> None:
        """Refuse an observation that is a dictionary."""
        readers = [
            node
            for node in graph.nodes
            if node.op != "placeholder" and node.args[1:] and self.kind(node) in ("getitem", "get")
        ]
        named = [node.args[1] for node in readers if getattr(node.args[0], "op", "") == "placeholder"]
        keys = sorted({key for key in named if isinstance(key, str)})
        if keys:
            example = ", ".join(f"{key!r}: x[..., a:b]" if len(keys) > 1 else f"{key!r}: x" for key in keys)
            reason = f"it takes a dictionary of observations (keys {', '.join(map(repr, keys))})"
            remedy = f"Wrap it so that forward takes one tensor: forward(x) returns module({{{example}}})"
            raise UnsupportedLayerError("forward", "dict", reason, remedy)

    def _normalisation(self, node: fx.Node, kind: str) -> str | None:
        """Name a normalisation that is spelled out: values less, or over, what is made of their own moments."""
        if kind not in ("sub", "div", "mul") or len(node.all_input_nodes) != 2:
            return None
        moment = node.all_input_nodes[1]
        while self.kind(moment) in _OF_MOMENTS and len(moment.all_input_nodes) == 1 and moment in self.observed:
            moment = moment.all_input_nodes[0]
        found = self.kind(moment) if moment in self.observed and moment.op.startswith("call") else ""
        if found in ("var", "std") or (found == "mean" and kind == "sub"):
            return "LayerNorm"
        return "RMSNorm" if found == "mean" else None

    def _only_input(self, node: fx.Node, path: str, kind: str) -> fx.Node:
        sources = self._sources(node)
        if len(sources) > 1:
            raise refusal(path, kind) if kind in ("cat", "concat", "stack", "normal") else joined(path, kind)
        if not sources:
            raise refusal(path, kind)
        return sources[0]

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the observed tensors among the arguments, as often as they occur."""
        found: list[fx.Node] = []
        fx.map_arg((node.args, node.kwargs), found.append)
        return [source for source in found if source in self.observed and _is_tensor(source)]

    def _gated(self, one: fx.Node, other: fx.Node) -> fx.Node | None:
        """Return x, if the two factors are x and σ(x)."""
        for gate, x in ((one, other), (other, one)):
            if gate.op == "call_module":
                is_sigmoid = isinstance(self.root.get_submodule(str(gate.target)), nn.Sigmoid)
            else:
                is_sigmoid = gate.op != "placeholder" and self.kind(gate) == "sigmoid"
            if is_sigmoid and gate.all_input_nodes == [x]:
                return x
        return None

    def _arithmetic(self, node: fx.Node, kind: str, path: str) -> list[Operation] | None:
        if kind == "neg":
            return [scale(path, kind, -1.0)]
        if kind not in ("add", "sub", "rsub", "mul", "div", "matmul", "addmm", "clamp_min", "clamp_max", "linear"):
            return None
        optional = kind in ("linear", "clamp_min", "clamp_max")
        if (node.kwargs and not optional) or len(node.args) + len(node.kwargs) < 2:
            raise UnsupportedLayerError(path, kind, f"its options {dict(node.kwargs)} are not read", "Write it plainly")
        first = node.args[0] in self.observed
        others = [argument for argument in (*node.args, *node.kwargs.values()) if argument not in self.observed]
        values = [_numbers(self.value(argument)) for argument in others]
        if kind == "linear" and first:
            return [affine(path, kind, *[value for value in values if value is not None])]
        if kind == "addmm" and node.args[1] in self.observed:
            return [affine(path, kind, values[1].T, values[0])]
        if kind == "matmul" and first and values[0].ndim == 2:
            return [affine(path, kind, values[0].T)]
        return [scaling(kind, path, values[0], first)]

    def _flatten(self, node: fx.Node, kind: str, path: str) -> Operation:
        reason, remedy = "it does more than give one row per observation", "Use flatten(1) or reshape(len(x), -1)"
        given = list(node.args[1:])
        if kind == "flatten":
            start = node.kwargs.get("start_dim", given[0] if given else 0)
            end = node.kwargs.get("end_dim", given[1] if len(given) > 1 else -1)
            if start == 1 and end == -1:
                return Flatten(path=path, kind=kind)
        else:
            sizes = list(given[0]) if len(given) == 1 and isinstance(given[0], tuple | list) else given
            if len(sizes) == 2 and isinstance(sizes[1], int) and not (sizes[0] == sizes[1] == -1):
                whole = sizes[0] == -1 or isinstance(sizes[0], fx.Node)
                if whole:
                    return Flatten(None if sizes[1] == -1 else sizes[1], path=path, kind=kind)
            if len(sizes) == 4 and (sizes[0] == -1 or isinstance(sizes[0], fx.Node)):
                channels, height, width = (size if isinstance(size, int) else 0 for size in sizes[1:])
                if min(channels, height, width) > 0:
                    return Unflatten((channels, height, width), path=path, kind=kind)
        raise UnsupportedLayerError(path, kind, reason, remedy)

    def _refuse_narrow(self, node: fx.Node, kind: str, path: str) -> None:
        given = [*node.args[1:], *node.kwargs.values()]
        found = [one for one in given if not isinstance(one, fx.Node)]
        if kind in CASTS:
            found += [self.value(one) for one in given if isinstance(one, fx.Node) and one not in self.observed]
        refuse_narrow(kind, found, path)

    def _cast(self, node: fx.Node, kind: str, path: str) -> list[Operation]:
        for argument in (*node.args[1:], *node.kwargs.values()):
            if isinstance(argument, torch.dtype) and not argument.is_floating_point:
                raise rounding(path, kind)
        return []

    def _selection(self, node: fx.Node, path: str) -> tuple[list[Operation], fx.Node]:
        parent, index = node.args
        assert isinstance(parent, fx.Node)
        if parent.op in ("call_function", "call_method") and self.kind(parent) in ("chunk", "split"):
            return [self._part(parent, index, path)], self._only_input(parent, path, self.kind(parent))
        last = index[-1] if isinstance(index, tuple) and len(index) == 2 and index[0] in (..., slice(None)) else None
        if not isinstance(last, slice | list):
            remedy = "Select actions as x[..., a:b]"
            raise UnsupportedLayerError(path, "getitem", f"it selects {index}", remedy)
        chosen = self.value(last)
        return [Select(lambda width: np.arange(width)[chosen], path=path, kind="getitem")], parent

    def _part(self, parent: fx.Node, index: Any, path: str) -> Operation:
        kind, arguments = self.kind(parent), dict(zip(("sizes", "dim"), parent.args[1:], strict=False))
        arguments |= {"sizes" if key != "dim" else key: value for key, value in parent.kwargs.items()}
        sizes = self.value(arguments["sizes"])
        if arguments.get("dim", 0) not in (-1, 1) or not isinstance(index, int):
            raise UnsupportedLayerError(path, kind, "it does not split the last axis", "Use dim=-1")

        def indices(width: int) -> Any:
            step = -(-width // sizes) if kind == "chunk" else sizes
            ends = list(range(step, width, step)) if isinstance(step, int) else list(np.cumsum(step)[:-1])
            return np.split(np.arange(width), ends)[index]

        return Select(indices, path=path, kind=kind)


def written(module: nn.Module) -> Iterator[str]:
    """Yield the names of what a module has kept of its trace: at the next decision it would read it."""
    for path, part in module.named_modules():
        for name, held in (*part._buffers.items(), *vars(part).items()):
            parts = held if isinstance(held, tuple | list | deque) else [held]
            if any(isinstance(one, fx.Proxy) for one in parts):
                yield f"{path}.{name}".lstrip(".")


def remembered(name: str) -> UnsupportedLayerError:
    """Return the refusal of something that a module has kept of its trace."""
    reason = "it is recurrent: what is written there is read at the next decision"
    return UnsupportedLayerError(name, "memory", reason, REMEDY)


def scaling(kind: str, path: str, constant: Any, first: bool) -> Operation:
    """Return x ∘ constant, or constant ∘ x where not `first`."""
    if kind == "div" and first and (constant == 0).any():
        raise divided_by_zero(path, kind, constant)
    match kind:
        case "add":
            return scale(path, kind, 1.0, constant)
        case "mul":
            return scale(path, kind, constant)
        case "sub" if first:
            return scale(path, kind, 1.0, -constant)
        case "rsub" if first:
            return scale(path, kind, -1.0, constant)
        case "sub":
            return scale(path, kind, -1.0, constant)
        case "div" if first:
            return scale(path, kind, 1.0 / constant)
        case "clamp_min":
            return clip(path, kind, low=constant)
        case "clamp_max":
            return clip(path, kind, high=constant)
    raise refusal(path, kind)


def _numbers(value: Any) -> Any:
    if value is None:
        return None
    return np.asarray(value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value, np.float64)


def _is_tensor(node: fx.Node) -> bool:
    """Return False for sizes, which reshapes take beside their tensor."""
    if node.op == "call_method":
        return node.target not in ("size", "dim", "numel", "__len__")
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] not in ("shape", "dtype", "device", "ndim")
    if node.op == "call_function" and node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return _is_tensor(node.args[0])
    return True


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    scope = next(reversed(stack.values()))[0] if stack else ""
    return f"{scope or 'forward'}.{node.name}"
