"""Stable-Baselines3's observation statistics: from a live `VecNormalize`, or from its pickle without running it.

The unpickler rebuilds NumPy's arrays and scalars from their bytes by rules of its own. Names of the libraries that
such a file always mentions become inert stubs: nothing is imported for them and nothing runs. Every other name is
refused.
"""

import pickle
import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.files import MEGABYTE, checked, reading
from snn_policy.sources.operations import Float64, Operation, clip, normalise

_LARGEST = 64 * MEGABYTE
_NUMERIC = re.compile(r"[biuf][1248]")
_INERT = ("stable_baselines3", "sb3_contrib", "gym", "gymnasium", "numpy.random")
_INERT_NAMES = {("collections", "OrderedDict"), ("collections", "deque")}


@dataclass(frozen=True, eq=False)
class ObservationStatistics:
    """x = clip((obs − mean) / √(variance + epsilon), ±reach)."""

    mean: Float64
    variance: Float64
    epsilon: float
    reach: float

    def operations(self, shape: tuple[int, ...]) -> list[Operation]:
        """Raises `SourceError` if the statistics are of other observations than `shape`."""
        if self.mean.shape != shape or self.variance.shape != shape:
            found = f"{self.mean.shape} and {self.variance.shape}"
            raise SourceError(f"vecnormalize: statistics of shape {found} do not fit observations {shape}")
        if not (np.isfinite(self.mean).all() and (self.variance + self.epsilon > 0).all() and self.reach > 0):
            raise SourceError("vecnormalize: mean, variance or clip_obs is not a usable number")
        scale = normalise("vecnormalize", "VecNormalize", self.mean, self.variance, self.epsilon)
        return [scale, clip("vecnormalize", "clip_obs", -self.reach, self.reach)]


class _Stub:
    """Stands for an object of another library: keeps its state, does nothing."""

    stands_for = ""
    fields: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Stub":
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


class _Dtype:
    """A NumPy dtype by name and byte order; only plain numbers can be read with it."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = str(name), "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def read(self, content: Any) -> npt.NDArray[Any] | None:
        """The numbers that the bytes hold; None where they hold anything else."""
        if not _NUMERIC.fullmatch(self.name) or not isinstance(content, bytes | bytearray):
            return None
        return np.frombuffer(bytes(content), np.dtype(self.order + self.name))


class _Array:
    """A NumPy array, rebuilt from shape and bytes alone."""

    values: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        flat = dtype.read(content)
        self.values = None if flat is None else flat.reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: _Dtype, content: Any = b"") -> Any:
    values = dtype.read(content)
    return None if values is None else values[0]


def _from_buffer(content: Any, dtype: _Dtype, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


# NumPy's own functions trust the file (a forged dtype makes them read bytes as addresses): these do not
_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}


class _NumbersOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        own = _NUMPY.get((module_name.replace("numpy._core", "numpy.core"), global_name))
        if own is not None:
            return own
        inert = any(module_name == each or module_name.startswith(f"{each}.") for each in _INERT)
        if inert or (module_name, global_name) in _INERT_NAMES:
            return type(global_name, (_Stub,), {"stands_for": f"{module_name}.{global_name}"})
        raise SourceError(f"holds {module_name}.{global_name}, which observation statistics never need; refused")


def _check_memo(content: bytes) -> None:
    """Refuse a memo index beyond the file's own size: the unpickler would make room for all before it."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise SourceError(f"memo index {argument} in a pickle of {len(content)} bytes; refused")


def read_statistics(source: Any) -> ObservationStatistics | None:
    """Observation statistics from a path or a live `VecNormalize`; None if it leaves observations alone."""
    if not isinstance(source, str | Path):
        return _statistics(vars(source), "vecnormalize")
    path = checked(Path(source), _LARGEST)
    with path.open("rb") as file, reading(path, "VecNormalize pickle"):
        _check_memo(file.read())
        file.seek(0)
        root = _NumbersOnly(file).load()
    if not isinstance(root, _Stub) or not root.stands_for.endswith(".VecNormalize"):
        raise SourceError(f"{path}: holds no VecNormalize")
    return _statistics(root.fields, str(path))


def _statistics(fields: dict[str, Any], path: str) -> ObservationStatistics | None:
    if not fields.get("norm_obs", True):
        return None
    with reading(path, "VecNormalize"):
        running = fields["obs_rms"]
        if isinstance(running, dict):
            remedy = "Train on one array (gymnasium's FlattenObservation)"
            raise UnsupportedLayerError("vecnormalize", "dict", "observations are a dictionary", remedy)
        moments = running.fields if isinstance(running, _Stub) else vars(running)
        mean, variance = (_numbers(moments[key], key) for key in ("mean", "var"))
        return ObservationStatistics(mean, variance, float(fields["epsilon"]), float(fields["clip_obs"]))


def _numbers(value: Any, key: str) -> Float64:
    held = value.values if isinstance(value, _Array) else value
    if held is None:
        raise SourceError(f"obs_rms.{key} does not hold numbers")
    return np.array(held, np.float64)


def beside(path: Path) -> Path | None:
    """The statistics saved with NAME.zip, where there are any."""
    stem = path.with_suffix("")
    places = (Path(f"{stem}.vecnormalize.pkl"), path.parent / "vecnormalize.pkl", stem / "vecnormalize.pkl")
    return next((place for place in places if place.is_file()), None)
