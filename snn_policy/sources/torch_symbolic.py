"""Torch modules that are no chain: their forward is called with symbolic tensors, and every function is looked up.

The tensors are real ones to whoever asks (shapes, types, `isinstance`), but hold no numbers: torch hands every function
that gets one to `_Follower`. Buffers are symbolic, too, so that what forward writes into them is seen.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.narrow_casts import refuse_autocast, refuse_narrow
from snn_policy.sources.refusals import refusal
from snn_policy.sources.symbolic import Symbolic, filled_like, held, leaves, observed, plain
from snn_policy.sources.value_movements import MOVES, SizeWanted
from snn_policy.sources.value_operators import applied

_FACTS = {"shape", "dtype", "device", "ndim", "is_cuda", "requires_grad", "layout", "is_sparse", "is_quantized", "size",
          "dim", "numel", "is_floating_point", "__len__", "is_contiguous", "stride", "is_nested", "is_mkldnn",
          "grad_fn",
          "is_complex", "element_size", "nelement", "ndimension", "is_leaf", "grad", "names", "is_meta", "get_device",
          "__hash__", "_backward_hooks", "is_xla", "type", "is_same_size", "__repr__", "itemsize"}  # fmt: skip
_NUMBERS = {"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "__contains__", "__format__",
            "equal", "allclose", "is_nonzero"}  # fmt: skip
_REPEATS = ("expand", "expand_as", "broadcast_to", "broadcast_tensors")
_DUNDER = re.compile(r"__(i?)(\w+?)__")


class Misfit(SizeWanted):
    """Say that values do not fit beside others, as one alone would: it would be repeated."""


class Traced(torch.Tensor):
    """Hold a tensor without numbers, whose meaning is `symbolic`."""

    symbolic: Symbolic

    @staticmethod
    def __new__(cls, symbolic: Symbolic, dtype: Any = torch.float32) -> "Traced":
        made = torch.Tensor._make_wrapper_subclass(cls, symbolic.shape, dtype=dtype, device=torch.device("cpu"))
        made.symbolic = symbolic
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise UnsupportedLayerError("forward", str(func), "no rule reads it", "Pass an ONNX export of the module")


class Follower(TorchFunctionMode):
    """Follow every function of torch's that is called while it is entered.

    Attributes:
        path: names what is running, for messages.

    Args:
        dtype: the type of what depends on the observation.
        narrow: whether that may be cast to floats narrower than float32.
    """

    def __init__(self, dtype: Any, narrow: bool = False) -> None:
        super().__init__()
        self.path, self._dtype, self._narrow = "forward", dtype, narrow

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, in_place = _name(func)
        given = dict(kwargs or {})
        try:
            return self._followed(func, name, in_place, args, given)
        except ValueError as problem:
            size = None if isinstance(problem, UnsupportedLayerError | SourceError) else _beside(name, args, given)
            if size is None:
                raise
            line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
            raise Misfit(f"{self.path}: {line}", size or None) from problem

    def _followed(self, func: Any, name: str, in_place: bool, args: Any, given: dict[str, Any]) -> Any:
        if "rand" in name or name in ("normal", "bernoulli", "multinomial", "poisson", "uniform", "exponential"):
            raise refusal(self.path, name)
        if not any(isinstance(one, Traced) for one in leaves([args, given])):
            return self._wrapped(func(*args, **given)) if not name.startswith("_") else func(*args, **given)
        if name in _FACTS and not (name == "type" and len(args) > 1):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **given)
        symbols, named = _symbols(args), _symbols(given)
        if not self._narrow and observed([symbols, named]):
            refuse_autocast(self.path, name)
            written = name in ("copy", "setitem", "index_put")
            refuse_narrow(name, [*(args[:1] if written else args[1:]), *given.values()], self.path)
        if name in ("data", "real"):
            name = "detach"
        if name == "getitem":
            return self._traced(symbols[0].entry(_index(symbols[1])))
        if name == "setitem":
            return _write(symbols[0].entry(_index(symbols[1])), symbols[2])
        if name == "index_put" and in_place and not symbols[3:] and not named:
            _write(symbols[0].entry(_index(tuple(symbols[1]))), symbols[2])
            return args[0]
        if name == "broadcast_tensors":
            shape = np.broadcast_shapes(*(one.shape for one in symbols))
            return tuple(self._traced(one.moved("expand", *shape)) for one in symbols)
        if name == "iter":
            return iter([self._traced(part) for part in symbols[0].moved("unbind", 0)])
        result = self._result(func, name, args, symbols, named)
        if (in_place or named.get("inplace") is True) and isinstance(symbols[0], Symbolic):
            _write(symbols[0], result)
            return args[0]
        return self._traced(result)

    def _result(self, func: Any, name: str, args: Any, symbols: Any, named: dict[str, Any]) -> Any:
        if name in ("copy", "fill", "set", "set_data"):
            return symbols[1]
        if name in ("gather", "index_select", "take_along_dim") and observed(symbols[1:]):
            raise refusal(self.path, name)
        if name in MOVES and isinstance(symbols[0], Symbolic):
            arguments = [_constant(one) for one in symbols[1:]]
            return symbols[0].moved(name, *arguments, **{key: _constant(one) for key, one in named.items()})
        if name == "zero":
            return np.zeros(symbols[0].shape, np.float32)
        if not observed([symbols, named]):
            return _folded(func, args, symbols, named)
        if name in _NUMBERS:
            reason = "it makes a number, or a branch, of the observation"
            raise UnsupportedLayerError(self.path, name.strip("_"), reason, "Keep forward free of branches on values")
        filled = filled_like(name, symbols, named)
        if filled is not None:
            return filled
        if "dropout" in name:
            training = named.get("training", symbols[2] if len(symbols) > 2 else not name.startswith("alpha"))
            return held(applied(name, plain(symbols[:1]), {"train": training}, self.path))
        if func is torch.batch_norm:
            name = "script_batch_norm"
        return held(applied(name, plain(list(symbols)), plain(named), self.path))

    def _traced(self, result: Any) -> Any:
        """Return symbols as tensors."""
        if isinstance(result, Symbolic):
            constant = result.constant
            dtype = self._dtype if constant is None else _dtype(constant)
            return Traced(result, dtype)
        if isinstance(result, np.ndarray | np.generic):
            return Traced(Symbolic.holding(np.asarray(result)), _dtype(np.asarray(result)))
        if isinstance(result, list | tuple):
            return tuple(self._traced(one) for one in result)
        return result

    def _wrapped(self, result: Any) -> Any:
        """Return new tensors of constants as symbolic ones, since values may be written into them."""
        if type(result) is torch.Tensor and result.device.type == "cpu" and not result.requires_grad:
            return self._traced(Symbolic.holding(result.numpy().copy()))
        return result


def _beside(name: str, args: Any, given: dict[str, Any]) -> int | None:
    """Return how long an observed tensor must be to fit beside others: 0 where nothing tells, None where it fits."""
    if name in _REPEATS:
        return 0
    tensors = _symbols(args), _symbols(given)
    symbols = [one for one in leaves(list(tensors)) if isinstance(one, Symbolic)]
    if name == "setitem":
        symbols = [tensors[0][0].entry(_index(tensors[0][1])), *symbols[-1:]]
    seen = [one.shape[-1] for one in symbols if one.shape and observed([one])]
    others = [one.shape[-1] for one in symbols if one.shape]
    return next((other for size in seen for other in others if other not in (1, size)), None)


def traced_constant(tensor: torch.Tensor) -> Traced:
    """Return a symbolic tensor of a tensor's numbers."""
    array = tensor.detach().cpu()
    return Traced(Symbolic.holding(array.float().numpy().copy() if array.dtype == torch.bfloat16 else
                                   array.numpy().copy()), tensor.dtype)  # fmt: skip


def _name(func: Any) -> tuple[str, bool]:
    """Return the plain name of a function, and whether it changes its first argument."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", name), False
    if name == "__set__":
        return "set_" + getattr(getattr(func, "__self__", None), "__name__", name), True
    if name in _FACTS or name in _NUMBERS:
        return name, False
    dunder = _DUNDER.fullmatch(name)
    if dunder is not None:
        short = name.strip("_")
        in_place = short in ("iadd", "isub", "imul", "itruediv", "idiv", "ipow", "imatmul")
        return (short[1:] if in_place else short), in_place
    in_place = name.endswith("_") and not name.startswith("_")
    return (name.removesuffix("_") if in_place else name), in_place


def _symbols(argument: Any) -> Any:
    """Return arguments with symbols in the place of tensors."""
    if isinstance(argument, Traced):
        return argument.symbolic
    if isinstance(argument, torch.Tensor):
        array = argument.detach().cpu()
        return Symbolic.holding(array.float().numpy() if array.dtype == torch.bfloat16 else array.numpy())
    if isinstance(argument, torch.Size):
        return tuple(argument)
    if isinstance(argument, list | tuple):
        return type(argument)(_symbols(one) for one in argument)
    if isinstance(argument, dict):
        return {key: _symbols(one) for key, one in argument.items()}
    return argument


def _constant(argument: Any) -> Any:
    """Return an argument of a movement: numbers, or the shape of another tensor."""
    if isinstance(argument, Symbolic):
        constant = argument.constant
        return argument if constant is None else constant
    if isinstance(argument, list | tuple):
        return type(argument)(_constant(one) for one in argument)
    return argument


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(one) for one in index)
    if isinstance(index, Symbolic):
        constant = index.constant
        if constant is None:
            reason = "which entries it takes depends on the observation"
            raise UnsupportedLayerError("forward", "getitem", reason, "Take fixed entries")
        return constant if constant.ndim else constant.item()
    return index


def _write(target: Symbolic, result: Any) -> None:
    given = plain(result)
    if isinstance(given, Value) and given.size == target.places.size:
        given = given.reshaped(target.shape)
    target.write(given)


def _folded(func: Callable[..., Any], args: Any, symbols: Any, named: dict[str, Any]) -> Any:
    """Return what torch makes of constants, as it does."""

    def real(argument: Any) -> Any:
        if isinstance(argument, Symbolic):
            return torch.as_tensor(argument.constant)
        if isinstance(argument, list | tuple):
            return type(argument)(real(one) for one in argument)
        return argument

    made = func(*real(tuple(symbols)), **{key: real(one) for key, one in named.items()})
    if isinstance(made, torch.Tensor):
        return made.detach().numpy().copy()
    if isinstance(made, tuple | list):
        return tuple(one.detach().numpy().copy() if isinstance(one, torch.Tensor) else one for one in made)
    return made


def _dtype(array: Any) -> Any:
    return torch.as_tensor(np.zeros(1, array.dtype)).dtype
