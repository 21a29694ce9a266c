"""The one checked way of taking what an environment gives, whatever library its arrays come from.

NumPy would broadcast an observation of shape `()`, `(1,)` or `(1, n)` into a row without a word, and a NaN would end
as the mean of all returns. So every loop of the package takes observations and rewards through this module, which
also carries arrays of other libraries (PyTorch, JAX, …) to NumPy and actions back. It imports none of them.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_array_api_obj
from gymnasium.vector import SyncVectorEnv, VectorEnv

from snn_policy.protocol import LARGEST_OBSERVATION, joined, unmasked

FEW_VALUES = 1000
_DEVICE_REMEDY = (
    "policies act on the CPU; make the environment there (device='cpu'), or wrap it in "
    "gymnasium.wrappers.vector.ArrayConversion (gymnasium.wrappers.ArrayConversion for a single one) to NumPy"
)


def host_array(value: Any, name: str) -> npt.NDArray[Any]:
    """Return the value as a NumPy array; tensors on the CPU share their memory with it where they can.

    Raises:
        ValueError: an array on another device, masked values, or no array at all.
    """
    unmasked(value, name)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    device = getattr(value, "device", None)
    kind = getattr(device, "type", getattr(device, "platform", device))  # PyTorch's, JAX's, or already a text
    if isinstance(kind, str) and "cpu" not in kind.lower():
        raise ValueError(f"{name}: {type(value).__name__} on device {device}; {_DEVICE_REMEDY}")
    try:
        if hasattr(value, "detach"):
            value = value.detach()
        if "bfloat16" in str(getattr(value, "dtype", "")):  # NumPy has no such type
            value = value.float() if hasattr(value, "float") else np.asarray(value).astype(np.float32)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as problem:
        raise ValueError(f"{name}: {type(value).__name__}, not an array of numbers ({problem})") from None


def host_observation(value: Any, shape: tuple[int, ...], name: str = "observation") -> npt.NDArray[Any]:
    """Return observations, of whatever library, or a dictionary of them where the shape has keys, as one NumPy array.

    Raises:
        ValueError: as `host_array` and `KeyedShape.joined`.
    """
    return host_array(joined(value, shape, name), name)


def numbers_of(value: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Return the value as a NumPy array of exactly this shape; it may be the environment's own buffer.

    Raises:
        ValueError: another shape, another device, or not real numbers.
    """
    values = host_observation(value, shape, name)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers of shape {shape}, got {type(value).__name__} of {values.dtype}")
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
    return values


def unusable(values: npt.NDArray[Any]) -> tuple[int, ...] | None:
    """Return the index of the first NaN, infinity or number beyond `LARGEST_OBSERVATION`; None if there is none."""
    if values.dtype.kind != "f" or not values.size:
        return None
    if values.size <= FEW_VALUES:  # a sum of squares this small has no large term, at a quarter of the time
        flat = values.astype(np.float64).ravel()
        if flat.dot(flat) <= LARGEST_OBSERVATION:
            return None
    if float(abs(values).max()) <= LARGEST_OBSERVATION:
        return None
    wide = values.astype(np.float64)  # in float16 the limit itself is infinite
    return tuple(int(i) for i in np.argwhere(~(abs(wide) <= LARGEST_OBSERVATION))[0])


def finite_observation(value: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return one observation (*shape) as an array of its own: float32, images uint8.

    Raises:
        ValueError: another shape, NaN, infinity or beyond `LARGEST_OBSERVATION`, another device, no numbers.
    """
    values = numbers_of(value, shape, "observation")
    index = unusable(values)
    if index is not None:
        raise ValueError(f"observation: {described(values[index])} at index {index}")
    return values.astype(np.uint8 if values.dtype == np.uint8 else np.float32)


def finite_number(value: Any, name: str) -> float:
    """Return one number, given as such or as an array of one entry, as a float.

    Raises:
        ValueError: several numbers or none, NaN or infinity, another device.
    """
    if isinstance(value, float | int):  # np.float64 is a float
        number = float(value)
    else:
        values = host_array(value, name)
        if values.dtype.kind not in "fiub" or values.size != 1:
            raise ValueError(f"{name}: expected one number, got {type(value).__name__} of shape {values.shape}")
        number = float(values.reshape(()))
    if not abs(number) < np.inf:
        raise ValueError(f"{name}: {described(number)}")
    return number


def described(number: Any) -> str:
    """Name a number that cannot be used: NaN, infinity, or its size."""
    value = float(number)
    return "NaN" if value != value else f"{value:g}, not finite or beyond ±{LARGEST_OBSERVATION:.0e}"


def environment_name(env: gym.Env | VectorEnv) -> str:
    """Return its Gymnasium id, or its class's name where it has none."""
    base: Any = env.unwrapped
    spec = getattr(base, "spec", None)
    if spec is None and isinstance(base, SyncVectorEnv):
        spec, base = base.envs[0].spec, base.envs[0].unwrapped
    return str(getattr(spec, "id", None) or type(base).__name__)


def place(environment: str, row: int, seed: int | None, step: int) -> str:
    """Say where something came from; step 0 is the reset, step k what the k-th `step` of the episode returned."""
    return f"environment {environment}, seed {'not given' if seed is None else seed}, row {row}, step {step}"


class ArrayForm:
    """Know the library whose arrays an environment gives, and therefore takes: NumPy, or another one on the CPU.

    Args:
        example: one of its observations; it is not kept.
    """

    def __init__(self, example: Any = 0.0) -> None:
        self._namespace = array_namespace(example) if _foreign(example) else None
        self._device = example.device if self._namespace is not None else None

    def of(self, actions: Any) -> Any:
        """Return the actions in this form, as they are where they have it.

        Raises:
            ValueError: actions on another device.
        """
        if not _foreign(actions):
            return actions if self._namespace is None else self._converted(np.array(actions))
        values = host_array(actions, "actions")
        return values if self._namespace is None else actions

    def _converted(self, values: npt.NDArray[Any]) -> Any:
        return self._namespace.asarray(values, device=self._device)  # pyright: ignore[reportOptionalMemberAccess]


def _foreign(value: Any) -> bool:
    """Return whether it is an array of another library than NumPy."""
    return not isinstance(value, np.ndarray | np.generic) and bool(is_array_api_obj(value))


class EnvironmentRow:
    """Run one environment of a loop: its observations and rewards are checked, and its episode's place is known.

    Args:
        env: a single environment.
        shape: of the observations that the policy takes.
        row: of the policy that acts in it; for messages.
    """

    def __init__(self, env: gym.Env, shape: tuple[int, ...], row: int = 0) -> None:
        self._env, self._shape, self._row = env, shape, row
        self._seed, self._steps, self._form = 0, 0, ArrayForm()

    def reset(self, seed: int) -> npt.NDArray[Any]:
        """Begin the episode of this seed; return its first observation (*shape), an array of its own.

        Raises:
            ValueError: an observation that cannot be used; it names seed, row and step.
        """
        self._seed, self._steps = seed, 0
        obs = self._env.reset(seed=seed)[0]
        try:
            taken = finite_observation(obs, self._shape)
        except ValueError as problem:
            raise self._misfit(problem) from None
        self._form = ArrayForm(obs)
        return taken

    def step(self, action: Any) -> tuple[npt.NDArray[Any], float, bool, bool]:
        """Return the next observation (*shape), an array of its own, the reward, `terminated` and `truncated`.

        Raises:
            ValueError: an observation, a reward or a flag that cannot be used; it names seed, row and step.
        """
        obs, reward, terminated, truncated, _ = self._env.step(self._form.of(action))
        self._steps += 1
        try:
            return (
                finite_observation(obs, self._shape),
                finite_number(reward, "reward"),
                _flag(terminated, "terminated"),
                _flag(truncated, "truncated"),
            )
        except ValueError as problem:
            raise self._misfit(problem) from None

    def _misfit(self, problem: ValueError) -> ValueError:
        return ValueError(f"{place(environment_name(self._env), self._row, self._seed, self._steps)}: {problem}")


def _flag(value: Any, name: str) -> bool:
    return bool(value) if isinstance(value, bool | np.bool_) else bool(finite_number(value, name))
