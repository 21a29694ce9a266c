"""Pickles of numbers, read without running them: what Stable-Baselines3 stores of statistics, spaces and observations.

The unpickler rebuilds NumPy's arrays and scalars from their bytes by rules of its own. Names of the libraries that
such a file always mentions, and plain containers, become inert stubs: nothing is imported for them and nothing runs.
Every other name is refused.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.refusals import COMPLEX, QUANTISED

_OTHER_TYPES = {"c8": "complex64", "c16": "complex128", "O8": "object"}
_OF_QUANTISED = ("torchao", "bitsandbytes", "quanto", "optimum", "torch.ao")
_LARGEST_TUPLE = 10_000
_NUMERIC = re.compile(r"[biuf][1248]")
_INERT = ("stable_baselines3", "sb3_contrib", "gym", "gymnasium", "numpy.random")
_CONTAINERS = ("dict", "list", "tuple", "set", "frozenset", "bytearray")
_INERT_NAMES = {("builtins", name) for name in _CONTAINERS} | {
    ("collections", name) for name in ("OrderedDict", "deque", "defaultdict")
}


class Stub:
    """Stand for an object of another library: keep its state, do nothing."""

    stands_for = ""
    fields: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Stub":
        made = super().__new__(cls)
        made.fields = {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass


class _Dtype:
    """Hold a NumPy dtype by name and byte order; only plain numbers can be read with it."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name if isinstance(name, str) else "", "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    @property
    def told(self) -> str:
        """Return the type's name, as float32; of what are no plain numbers, the name in the file."""
        if _NUMERIC.fullmatch(self.name):
            return np.dtype(self.name).name
        return _OTHER_TYPES.get(self.name, self.name[:40] or "unknown")

    def read(self, content: Any) -> npt.NDArray[Any] | None:
        """Return the numbers that the bytes hold, not copied; None where they hold anything else."""
        if not _NUMERIC.fullmatch(self.name) or not isinstance(content, bytes | bytearray):
            return None
        return np.frombuffer(content, np.dtype(self.order + self.name))


class Array:
    """Hold a NumPy array, rebuilt from shape and bytes alone."""

    values: npt.NDArray[Any] | None = None
    shape: tuple[int, ...] = ()
    dtype = "unknown"

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.shape, self.dtype = shape, dtype.told
        flat = dtype.read(content)
        self.values = None if flat is None else flat.reshape(shape, order="F" if fortran else "C")


# NumPy's own functions trust the file (a forged dtype makes them read bytes as addresses): these do not. They are
# classes, because the state that a pickle gives to a function would change its defaults, for good
class _Reconstruct(Array):
    def __new__(cls, *_: Any) -> "_Reconstruct":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass


class _Buffer(Array):
    def __init__(self, content: Any, dtype: _Dtype, shape: Any, order: Any) -> None:
        self.__setstate__((1, shape, dtype, order == "F", content))


class _Scalar(Array):
    def __new__(cls, dtype: _Dtype, content: Any = b"") -> Any:
        values = dtype.read(content)
        return None if values is None else values[0]


_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
}


class _NumbersOnly(pickle.Unpickler):
    def __init__(
        self, content: bytes, names: Callable[[str, str], Any], storages: Callable[[Any], Any], what: str
    ) -> None:
        super().__init__(io.BytesIO(content))
        self._names, self._storages, self._what = names, storages, what

    def persistent_load(self, pid: Any, /) -> Any:
        return self._storages(pid)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        own = self._names(module_name, global_name)
        own = _NUMPY.get((module_name.replace("numpy._core", "numpy.core"), global_name)) if own is None else own
        if own is not None:
            return own
        inert = any(module_name == package or module_name.startswith(f"{package}.") for package in _INERT)
        if inert or (module_name, global_name) in _INERT_NAMES:
            return type(global_name, (Stub,), {"stands_for": f"{module_name}.{global_name}"})
        if global_name.startswith("Complex"):
            raise UnsupportedLayerError(f"{module_name}.{global_name}", *COMPLEX)
        if any(module_name.startswith(f"{package}.") for package in _OF_QUANTISED):
            raise UnsupportedLayerError(f"{module_name}.{global_name}", *QUANTISED)
        raise SourceError(f"holds {module_name}.{global_name}, which {self._what} never need; refused")


class _Mapping(dict[Any, Any]):
    """Keep an ordered dictionary; its other attributes are left out."""

    def __setstate__(self, _: Any) -> None:
        pass


def mappings(module: str, name: str) -> Any:
    """Return names for `load_numbers` that keep what ordered dictionaries hold."""
    return _Mapping if (module, name) == ("collections", "OrderedDict") else None


def _no_names(*_: Any) -> None:
    return None


def load_numbers(
    content: bytes,
    names: Callable[[str, str], Any] = _no_names,
    storages: Callable[[Any], Any] = _no_names,
    what: str = "observation statistics",
) -> Any:
    """Rebuild a pickle's root from numbers, plain containers and stubs.

    Args:
        names: (module, name) → the class that stands for it, None for no opinion; it must do nothing but keep numbers.
        storages: what stands for a persistent id, by which files of PyTorch's refer to their arrays.
        what: the content, for messages.

    Raises:
        SourceError: it names anything else, or would take far more memory or time than its size tells.
        Exception: whatever the unpickler raises where the content is damaged.
    """
    _check_costs(content)
    return _NumbersOnly(content, names, storages, what).load()


def _check_costs(content: bytes) -> None:
    """Refuse memo indices and tuples that cost the unpickler more than the file's size.

    It makes room for all memo entries before an index. A tuple that is a key is hashed through all that it holds,
    which grows exponentially where tuples hold others twice.
    """
    stack: list[int] = []  # of every slot, the entries of its tuple, with those of the tuples in it; 0 is a mark
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(content):
        name, top = opcode.name, stack[-1] if stack else 1
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if name == "MEMOIZE" else int(argument or 0)
            if index > len(content):
                raise SourceError(f"memo index {index} in a pickle of {len(content)} bytes; refused")
            memo[index] = top
            continue
        popped = _popped(stack, opcode)
        size = 1
        if name in ("GET", "BINGET", "LONG_BINGET"):
            size = memo.get(int(argument or 0), 1)
        elif name == "DUP":
            size = top
        elif name.startswith("TUPLE"):
            size = 1 + sum(popped)
        if size > _LARGEST_TUPLE:
            raise SourceError(f"tuples within tuples of more than {_LARGEST_TUPLE} entries; refused")
        stack += [0] if name == "MARK" else [size] * len(opcode.stack_after)


def _popped(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take off the stack what an opcode takes; return what lay above the mark, where it takes one."""
    before, start = opcode.stack_before, len(stack) - len(opcode.stack_before)
    if pickletools.markobject in before:
        mark = len(stack) - 1
        while mark > 0 and stack[mark]:
            mark -= 1
        popped, start = stack[mark + 1 :], mark - before.index(pickletools.markobject)
    else:
        popped = stack[max(0, start) :]
    del stack[max(0, start) :]
    return popped
