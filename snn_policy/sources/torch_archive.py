"""Archives of `torch.save` and `torch.jit.save`, read without torch: their pickles as numbers, their tensors as arrays.

Such a file is a zip with `NAME/data.pkl`, whose tensors name a storage each, `NAME/data/KEY`. The pickle goes through
the unpickler for numbers only; a tensor is the strides of its storage, checked against its length; and storages are
read when somebody asks for them, so that an optimiser's moments cost nothing.
"""

import math
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError
from snn_policy.sources.unpickling import Array, Stub, load_numbers, mappings
from snn_policy.untrusted_files import LARGEST_TEXT, LARGEST_WEIGHTS, MEGABYTE, MOST_GROWTH, checked

STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_QUANTISED = ("QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage")
_SCHEMES = ("per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams", "qint8", "quint8", "qint32")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


class Storage:
    """Hold a flat array of an archive, read when it is asked for."""

    def __init__(self, archive: "TorchArchive", key: str, kind: str) -> None:
        self.archive, self.key, self.kind = archive, key, kind

    def read(self) -> npt.NDArray[Any]:
        return self.archive.storage(self.key, self.kind)


class Tensor:
    """Hold a tensor's place in its storage; `values` reads it, as a view that shares memory with others."""

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, Storage) or len(shape) != len(stride):
            raise SourceError("holds a tensor without a storage; refused")
        numbers = (offset, *shape, *stride)
        if not all(isinstance(number, int) and 0 <= number <= LARGEST_WEIGHTS for number in numbers):
            raise SourceError(f"holds a tensor of shape {tuple(shape)} with strides {tuple(stride)}; refused")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def __setstate__(self, _: Any) -> None:
        """Ignore what else a pickle says of it."""

    @property
    def dtype(self) -> str:
        """Return the name of the numbers' type, which costs no reading."""
        return "bfloat16" if self.storage.kind == "BFloat16Storage" else np.dtype(STORAGES[self.storage.kind]).name

    @property
    def values(self) -> npt.NDArray[Any]:
        flat = self.storage.read()
        size = math.prod(self.shape)
        reach = sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        if size and (self.offset + reach >= len(flat) or size > len(flat)):
            raise SourceError(f"a tensor of shape {self.shape} does not fit its {len(flat)} stored numbers")
        strides = tuple(step * flat.itemsize for step in self.stride)
        if not size:
            return np.zeros(self.shape, flat.dtype)
        return np.ndarray(self.shape, flat.dtype, flat, self.offset * flat.itemsize, strides)


class _Parameter:
    """Stand for `torch.nn.Parameter`: the tensor itself."""

    def __new__(cls, tensor: Any, *_: Any) -> Any:
        return tensor


class _Quantised(Array):
    """Stand for a quantised tensor, to be refused by its name where it is a weight: its numbers are never read."""

    dtype = "quantised"

    def __init__(self, _storage: Any, _offset: Any, shape: Any, *_: Any) -> None:
        self.shape = tuple(size for size in shape if isinstance(size, int))

    def __setstate__(self, _: Any) -> None:
        pass


class _Bytes:
    """Stand for bytes, as pickles of protocol 2 spell them: a text that stands for them character by character."""

    def __new__(cls, text: Any, encoding: Any = "latin1") -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise SourceError("holds an encoded text that is no array; refused")
        return text.encode("latin1")


class _Size(tuple[int, ...]):
    """Stand for `torch.Size`."""


_OWN: dict[tuple[str, str], Any] = (
    {
        ("torch._utils", "_rebuild_tensor_v2"): Tensor,
        ("torch._utils", "_rebuild_tensor"): Tensor,
        ("torch._utils", "_rebuild_parameter"): _Parameter,
        ("torch._utils", "_rebuild_qtensor"): _Quantised,
        ("torch", "Size"): _Size,
        ("torch", "device"): Stub,
        ("_codecs", "encode"): _Bytes,
    }
    | {("torch", name): Stub for name in (*_DTYPES, *_SCHEMES)}
    | {("torch", name): type(name, (), {"kind": name}) for name in (*STORAGES, *_QUANTISED)}
)


class TorchArchive:
    """Open a zip of PyTorch's; every member is read with a limit.

    Attributes:
        kinds: of what storages the tensors are that were unpickled.

    Raises:
        SourceError: no such zip, too large, or with names that leave its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = checked(path, 4 * LARGEST_WEIGHTS)
        self._read, self._most = 0, min(LARGEST_WEIGHTS, MOST_GROWTH * path.stat().st_size + MEGABYTE)
        self.kinds = set[str]()
        self._storages: dict[tuple[str, str], npt.NDArray[Any]] = {}
        with self.damage():
            self._zip = zipfile.ZipFile(path)
        self.names = set(self._zip.namelist())
        roots = [name.removesuffix("data.pkl") for name in self.names if name.endswith("/data.pkl")]
        leaving = [name for name in self.names if name[:1] in "/." or posixpath.normpath(name) != name.rstrip("/")]
        if leaving or len(roots) != 1:
            what = f"the member {leaving[0]!r} leaves its folder" if leaving else "no data.pkl inside, or several"
            raise SourceError(f"{path}: {what}; refused")
        self.root = roots[0]

    def __enter__(self) -> "TorchArchive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @contextmanager
    def damage(self) -> Iterator[None]:
        """Return one line for whatever a damaged archive makes `zipfile` raise."""
        try:
            yield
        except SourceError:
            raise
        except _DAMAGE as problem:
            raise SourceError(f"{self.path}: not a readable zip, or a truncated one ({problem})") from problem

    def holds(self, name: str) -> bool:
        return self.root + name in self.names

    def member(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        """Return a member's bytes; all that is ever read together has the limit of weights."""
        if not self.holds(name):
            raise SourceError(f"{self.path}: no {name!r} inside")
        limit = min(limit, self._most - self._read)
        with self.damage(), self._zip.open(self.root + name) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise SourceError(f"{self.path}: {name} unpacks to more than {limit / MEGABYTE:.3g} MB; refused")
        self._read += len(content)
        return content

    def storage(self, key: str, kind: str) -> npt.NDArray[Any]:
        """Return a storage as a flat array in the machine's byte order."""
        if (key, kind) not in self._storages:
            big = self.holds("byteorder") and self.member("byteorder", MEGABYTE).strip() == b"big"
            content = self.member(key, LARGEST_WEIGHTS)
            dtype = np.dtype((">" if big else "<") + STORAGES[kind]) if STORAGES[kind] != "?" else np.dtype(bool)
            flat = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
            if kind == "BFloat16Storage":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            self._storages[key, kind] = flat
        return self._storages[key, kind]

    def pickled(self, name: str, names: Any = None) -> Any:
        """Return the root of a pickle of this archive, its tensors as `Tensor`.

        Args:
            names: (module, name) → a class that stands for it, or None; beside those of tensors.
        """

        def known(module: str, attribute: str) -> Any:
            own = _OWN.get((module, attribute)) or mappings(module, attribute)
            return own if own is not None or names is None else names(module, attribute)

        folder = name.removesuffix(".pkl")

        def storage(pid: Any) -> Storage | None:
            tag, kind, key = pid[0], getattr(pid[1], "kind", None), pid[2]
            if tag == "storage" and kind in _QUANTISED:
                return None
            if tag != "storage" or kind not in STORAGES or not isinstance(key, str):
                raise SourceError("holds a tensor of a kind that no policy has; refused")
            self.kinds.add(kind)
            return Storage(self, f"{folder}/{key}", kind)

        return load_numbers(self.member(name), known, storage, "weights")
