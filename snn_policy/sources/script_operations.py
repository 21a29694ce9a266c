"""One function of torch's on a value that depends on the observation, as a TorchScript program calls it."""

import math
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.operations import Flatten, Operation, Select, Unflatten, activate, affine, batch_norm, scale
from snn_policy.sources.refusals import divided_by_zero, joined, refusal, rounding
from snn_policy.sources.script_values import Call, Observed, ScriptModule, SizeFound, UnknownSize, Unread, values_in

Shape = tuple[int | None, ...]
VIEWS = ("slice", "select", "view", "reshape", "flatten", "unsqueeze", "squeeze", "narrow", "expand", "alias")
RECURRENT = {
    "lstm": "LSTM", "lstm_cell": "LSTM", "gru": "GRU", "gru_cell": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN",
    "rnn_tanh_cell": "RNN", "rnn_relu_cell": "RNN", "quantized_lstm": "LSTM",
}  # fmt: skip
_UNCHANGED = ("detach", "contiguous", "clone", "to", "float", "double", "type_as", "cpu", "requires_grad_", "alias",
              "dropout", "feature_dropout", "alpha_dropout", "native_dropout")  # fmt: skip
_FLOATS = (5, 6, 7, 15)
_SCALINGS = ("add", "sub", "rsub", "mul", "div", "clamp_min", "clamp_max", "minimum", "maximum", "min", "max",
             "true_divide", "subtract", "multiply", "divide")  # fmt: skip
_ALIASES = {"minimum": "clamp_max", "maximum": "clamp_min", "min": "clamp_max", "max": "clamp_min",
            "true_divide": "div", "subtract": "sub", "multiply": "mul", "divide": "div", "clip": "clamp"}  # fmt: skip
_IMAGES = ("conv2d", "_convolution", "convolution", "avg_pool2d", "adaptive_avg_pool2d")


def applied(name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> Any:
    """Return the value that a function makes of others, at least one of which is `Observed`.

    Raises:
        UnsupportedLayerError: no rule reads it.
        SizeFound: it tells the input's size, which was not known.
    """
    observed = [value for value in values_in([arguments, keywords]) if isinstance(value, Observed)]
    call = Call(name, tuple(arguments), keywords)
    x = observed[0]
    if name in ("size", "dim", "len", "numel", "dtype", "device", "is_cuda", "is_floating_point"):
        return _fact(name, x, arguments[1:])
    if name in ("cat", "concat", "stack", "hstack", "concatenate"):
        return _joined(name, arguments, keywords, path)
    if len(observed) > 1:
        gate, activation = _gated(name, observed)
        if gate is None:
            raise joined(path, name)
        return _made(gate, call, gate.shape, activate(path, activation, activation))
    if name in _UNCHANGED:
        _check_cast(name, arguments, keywords, path)
        return x
    if name in _SCALINGS:
        return _scaled(name, x, arguments, keywords, call, path)
    if arguments[0] is not x and name != "addmm":
        raise refusal(path, name)
    if name in ("linear", "addmm", "matmul", "mm"):
        return _multiplied(name, x, arguments, keywords, call, path)
    if name in VIEWS:
        return _viewed(name, x, arguments, keywords, call, path)
    if name in _IMAGES:
        return _filtered(name, x, arguments, keywords, call, path)
    return _other(name, x, arguments, keywords, call, path)


def attentive(module: ScriptModule) -> Unread | None:
    """Return torch's own attention and transformers, which are not followed, by their kind."""
    own = module.kind.endswith(".MultiheadAttention") or ".torch.nn.modules.transformer." in module.kind
    return Unread(refusal(module.path or "module", module.name)) if own else None


def _made(x: Observed, call: Call, shape: Shape, operations: list[Operation]) -> Observed:
    return Observed(x.root, shape, (*x.operations, *operations), call)


def _count(shape: Shape) -> int:
    """Return the number of values, the unknown size counted as one."""
    return math.prod(size or 1 for size in shape)


def _fact(name: str, x: Observed, rest: list[Any]) -> Any:
    unknown = UnknownSize(SourceError("the observation's size is not known here; pass observation_shape="), x.root)
    sizes = [unknown if size is None else size for size in x.shape]
    return tensor_fact(name, sizes, rest, unknown if None in x.shape else _count(x.shape))


def tensor_fact(name: str, sizes: list[Any], rest: list[Any], count: Any) -> Any:
    """Return what a program asks of a tensor: one of its sizes or all, their number, its `count` of values."""
    match name:
        case "size":
            return sizes[rest[0]] if rest else sizes
        case "dim":
            return len(sizes)
        case "len":
            return sizes[0]
        case "numel":
            return count
        case "dtype":
            return 6
        case "device":
            return "cpu"
    return name == "is_floating_point"


def _joined(name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> Any:
    pieces = arguments[0] if isinstance(arguments[0], list | tuple) else arguments
    if len(pieces) == 1 and name in ("cat", "concat", "hstack", "concatenate"):
        return pieces[0]
    widths = " + ".join(str((piece.shape if isinstance(piece, Observed) else np.shape(piece))[-1]) for piece in pieces)
    reason = f"it is a concatenation of {len(pieces)} values, {widths} wide"
    raise UnsupportedLayerError(path, name, reason, "Use a policy that is one chain of layers")


def _gated(name: str, observed: list[Observed]) -> tuple[Observed | None, str]:
    """Return x and the activation, in x · σ(x) and x / (1 + |x|)."""
    first, second = observed[:2]
    calls = [operand.call for operand in (first, second)]
    if len(observed) == 2 and name == "mul":
        for call, x in ((calls[0], second), (calls[1], first)):
            if call is not None and call.name == "sigmoid" and call.arguments[0] is x:
                return x, "silu"
    if len(observed) == 2 and name == "div" and calls[1] is not None and calls[1].name == "add":
        size, one = (*calls[1].arguments, 0)[:2]
        inner = size.call if isinstance(size, Observed) else None
        if one == 1 and inner is not None and inner.name == "abs" and inner.arguments[0] is first:
            return first, "softsign"
    return None, ""


def _check_cast(name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> None:
    if "dropout" in name:
        if bool(arguments[2] if len(arguments) > 2 else keywords.get("train", False)):
            raise refusal(path, name)
        return
    kinds = [argument for argument in (*arguments[1:], keywords.get("dtype")) if type(argument) is int]
    if name == "to" and kinds and kinds[0] not in _FLOATS:
        raise rounding(path, name)


def _known(x: Observed, width: int) -> None:
    """Tell the input's size where it is not known."""
    if x.shape[-1] is None:
        raise SizeFound(x.root, width)


def _scaled(
    name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str
) -> Observed:  # fmt: skip
    from snn_policy.sources.torch_nodes import scaling

    kind = _ALIASES.get(name, name)
    if len(arguments) < 2 or keywords.get("rounding_mode") is not None:
        raise refusal(path, name)
    first = arguments[0] is x
    constant = np.asarray(arguments[1 if first else 0], np.float64)
    alpha = arguments[2] if len(arguments) > 2 else keywords.get("alpha", 1)
    if not isinstance(alpha, int | float) or (alpha != 1 and (kind not in ("add", "sub") or not first)):
        raise UnsupportedLayerError(path, name, f"its factor {alpha} is not read", "Write it plainly")
    if constant.ndim and constant.shape[-1] > 1:
        _known(x, constant.shape[-1])
    shape = x.shape if None in x.shape else np.broadcast_shapes(x.shape, constant.shape)  # pyright: ignore
    if _count(shape) != _count(x.shape):
        raise UnsupportedLayerError(path, name, f"it repeats values of {x.shape}", "Keep one row per observation")
    if kind == "div" and first and (constant == 0).any():
        raise divided_by_zero(path, kind, constant)
    return _made(x, call, shape, [scaling(kind, path, constant * alpha, first)])


def _multiplied(
    name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str
) -> Observed:  # fmt: skip
    if name == "addmm":
        bias, x_given, matrix = arguments[:3]
        if x_given is not x or any(keywords.get(key, 1) != 1 for key in ("beta", "alpha")) or len(arguments) > 3:
            raise UnsupportedLayerError(path, name, "its factors are not read", "Use a linear layer")
        weight = np.asarray(matrix).T
    elif name == "linear":
        weight, bias = arguments[1], (arguments[2] if len(arguments) > 2 else keywords.get("bias"))
    else:
        weight, bias = np.asarray(arguments[1]).T, None
    weight = np.asarray(weight)
    if weight.ndim != 2:
        raise UnsupportedLayerError(path, name, f"its weight has the shape {weight.shape}", "Use a linear layer")
    _known(x, weight.shape[1])
    if x.shape[-1] != weight.shape[1]:
        raise SourceError(f"{path} takes {weight.shape[1]} inputs, but gets {x.shape[-1]}")
    if _count(x.shape[:-1]) != 1:
        raise UnsupportedLayerError(path, name, f"it acts on rows of {x.shape}", "Keep one row per observation")
    if bias is not None and np.shape(bias) not in ((len(weight),), (1, len(weight))):
        raise SourceError(f"{path} ({name}): its shapes do not fit: weight {weight.shape}, bias {np.shape(bias)}")
    bias = None if bias is None else np.reshape(bias, -1)
    return _made(x, call, (*x.shape[:-1], len(weight)), [affine(path, name, weight, bias)])


def _viewed(
    name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str
) -> Observed:  # fmt: skip
    match name:
        case "unsqueeze":
            place = arguments[1] % (len(x.shape) + 1)
            return _made(x, call, (*x.shape[:place], 1, *x.shape[place:]), [])
        case "squeeze":
            chosen = range(len(x.shape)) if len(arguments) < 2 else [arguments[1] % len(x.shape)]
            shape = tuple(size for axis, size in enumerate(x.shape) if axis not in chosen or size != 1)
            return _made(x, call, shape, [])
        case "slice" | "select" | "narrow":
            return _selected(name, x, arguments, keywords, call, path)
        case "expand":
            wanted = arguments[1]
            if len(wanted) == len(x.shape) and all(a in (-1, b) for a, b in zip(wanted, x.shape, strict=True)):
                return _made(x, call, x.shape, [])
            raise UnsupportedLayerError(path, name, f"it repeats values to {wanted}", "Keep one row per observation")
        case "flatten":
            start, end = (arguments[k] if len(arguments) > k else default for k, default in ((1, 0), (2, -1)))
            axes = len(x.shape)
            start, end = start % axes, end % axes
            merged = x.shape[start : end + 1]
            size = None if None in merged else _count(merged)
            return _reshaped(name, x, (*x.shape[:start], size, *x.shape[end + 1 :]), call, path)
    return _reshaped(name, x, tuple(arguments[1]), call, path)


def _reshaped(name: str, x: Observed, wanted: Shape, call: Call, path: str) -> Observed:
    """Return a view of other axes: one row, or one image of one observation."""
    sizes = [size for size in wanted if size is not None and not isinstance(size, Unread)]
    if len(sizes) < len(wanted) or None in x.shape:
        known = math.prod(size for size in sizes if size > 0)
        rows = len(sizes) == len(wanted) and -1 in sizes[-1:]
        if len(wanted) <= 3 and known == 1 and (rows or len(sizes) < len(wanted)):
            return _made(x, call, (*[1] * (len(wanted) - 1), None), [Flatten(path=path, kind=name)])
        _known(x, known)
    size = _count(x.shape)
    shape = [length if length != -1 else size // max(1, -math.prod(sizes)) for length in sizes]
    if math.prod(shape) != size or not shape:
        raise SourceError(f"{path} ({name}): values of shape {x.shape} do not fit {wanted}")
    if math.prod(shape[:-1]) == 1:
        return _made(x, call, tuple(shape), [Flatten(shape[-1], path=path, kind=name)])
    if len(shape) == 4 and shape[0] == 1:
        return _made(x, call, tuple(shape), [Unflatten((shape[1], shape[2], shape[3]), path=path, kind=name)])
    reason = f"it makes rows of shape {shape[1:]} of one observation"
    raise UnsupportedLayerError(path, name, reason, "Keep one row per observation")


def _selected(
    name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str
) -> Observed:  # fmt: skip
    axis = (arguments[1] if len(arguments) > 1 else keywords.get("dim", 0)) % len(x.shape)
    rest = arguments[2:]
    if name == "select":
        chosen: Any = rest[0]
    elif name == "narrow":
        chosen = slice(rest[0], rest[0] + rest[1])
    else:
        chosen = slice(*[rest[k] if len(rest) > k else None for k in range(3)])
    length = x.shape[axis]
    whole = isinstance(chosen, slice) and (chosen.start or 0, chosen.step or 1) == (0, 1)
    if whole and (chosen.stop is None or chosen.stop >= 2**62):
        return _made(x, call, x.shape, [])
    if length is None:
        remedy = "Pass observation_shape=(n,), or select from the observation outside the policy"
        raise UnsupportedLayerError(path, name, "the observation's size is not known here", remedy)
    indices = np.arange(length)[chosen]
    shape = (*x.shape[:axis], *([len(indices)] if indices.ndim else []), *x.shape[axis + 1 :])
    if np.size(indices) == length and np.array_equal(np.ravel(indices), np.arange(length)):
        return _made(x, call, shape, [])
    if axis != len(x.shape) - 1 or _count(x.shape[:-1]) != 1:
        remedy = "Crop images and choose frames outside the policy"
        raise UnsupportedLayerError(path, name, f"it selects from values of shape {x.shape}", remedy)
    flat = np.ravel(indices)
    return _made(x, call, shape or (1,), [Select(lambda _: flat, path=path, kind=name)])


def _filtered(
    name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str
) -> Observed:  # fmt: skip
    from snn_policy.sources.images import placed
    from snn_policy.sources.torch_layers import function_operations

    if len(x.shape) != 4 or None in x.shape:
        channels = np.shape(arguments[1])[1] if "conv" in name and np.ndim(arguments[1]) == 4 else "channels"
        example = f"observation_shape=({channels}, height, width)"
        raise SourceError(f"the images' size is not known ({path} takes any); pass {example}")
    given = list(arguments[1:])
    if name in ("_convolution", "convolution"):
        if given[5] is not False or any(given[6]):
            raise refusal(path, "ConvTranspose2d")
        given = [*given[:5], given[7]]
    made: list[Any] = function_operations("conv2d" if "conv" in name else name, path, given, keywords)
    row: Any = x.shape[1:]
    shape = placed(made[0], row).output_shape
    return _made(x, call, (1, *shape), made)


def _other(name: str, x: Observed, arguments: list[Any], keywords: dict[str, Any], call: Call, path: str) -> Observed:
    from snn_policy.sources.torch_layers import function_operations

    if name == "abs":  # read as a part of softsign only; refused where it is left
        return _made(x, call, x.shape, [Operation(path=path, kind=name)])
    if name == "neg":
        return _made(x, call, x.shape, [scale(path, name, -1.0)])
    if name == "elu" and any(argument != 1 for argument in (*arguments[2:], *keywords.values())):
        raise UnsupportedLayerError(path, name, "its scales are not read", "Use ELU with alpha alone")
    if name == "batch_norm":
        weight, bias, mean, variance, training, _, epsilon, *_ = arguments[1:]
        if training or mean is None or variance is None:
            raise refusal(path, name)
        _known(x, len(mean))
        if not (np.asarray(variance) + epsilon > 0).all():
            raise UnsupportedLayerError(path, name, "its variance is not positive", "Retrain it, or leave it out")
        factor, offset = (1.0 if weight is None else weight), (0.0 if bias is None else bias)
        return _made(x, call, x.shape, [batch_norm(path, name, mean, variance, epsilon, factor, offset)])
    if name in ("softmax", "log_softmax", "argmax"):
        axis = arguments[1] if len(arguments) > 1 else keywords.get("dim")
        arguments = [x, -1 if axis == len(x.shape) - 1 else axis]
        made = function_operations(name, path, arguments[1:], {})
        return _made(x, call, x.shape if "softmax" in name else x.shape[:-1], made)
    if name == "mean" and len(x.shape) == 4 and None not in x.shape:
        made = function_operations(name, path, list(arguments[1:]), keywords)
        return _made(x, call, (1, x.shape[1], *([1, 1] if len(arguments) > 2 and arguments[2] else [])), made)
    if name == "mean":
        raise refusal(path, name)
    return _made(x, call, x.shape, function_operations(_ALIASES.get(name, name), path, list(arguments[1:]), keywords))
