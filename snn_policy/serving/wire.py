"""What travels: msgpack maps, arrays as openpi's clients write them; strict, and never an object or a pickle.

An array is the map {"__ndarray__": true, "data": bytes, "dtype": "<f4", "shape": [17]}, a NumPy scalar is
{"__npgeneric__": true, "data": 3, "dtype": "<i8"}; the keys of both are bytes, as openpi's clients send them,
or texts. An observation may also be a plain (nested) list of numbers.
"""

from typing import Any, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

from snn_policy.checks import whole
from snn_policy.protocol import FloatArray, KeyedShape, as_batch

OBSERVATION_KEYS = ("observation", "obs", "state", "observation/state")
KEYS = (*OBSERVATION_KEYS, "reset", "env_id", "session")
DTYPES = {
    name: np.dtype(name)
    for name in (
        "|b1", "|i1", "|u1", *(order + kind for order in "<>" for kind in ("f2", "f4", "f8", "i2", "i4", "i8",
                                                                         "u2", "u4", "u8"))
    )
}  # fmt: skip
LONGEST_NAME, LONGEST_COMPLAINT = 64, 300
HEAD_ROOM, BYTES_PER_NUMBER = 4096, 9
"""A message may hold so many bytes, and as many per number of an observation: a float64 in a msgpack list has 9."""

EnvId = int | str | None


class MessageError(ValueError):
    """Report a message that is not a request; the text names what is wrong with it."""


class Request(NamedTuple):
    """Hold one message of a client.

    observation: (1, *observation_shape) float32, or None for a reset alone.
    batched: whether it came with that leading axis of 1, so that the action is to have it too.
    reset: whether the memory starts from zero.
    env_id: which of the connection's (or the session's) memories.
    session: the name of a memory that outlives the connection; None for the connection's own.
    """

    observation: FloatArray | None
    batched: bool
    reset: bool
    env_id: EnvId
    session: str | None


def most_bytes(observation_shape: tuple[int, ...]) -> int:
    """Return the largest message a client of this policy has any reason to send."""
    return HEAD_ROOM + BYTES_PER_NUMBER * int(np.prod(observation_shape))


def decode_request(message: bytes | str, observation_shape: tuple[int, ...]) -> Request:
    """Read one message.

    Raises:
        MessageError: anything but a request with an observation of that shape, or a reset.
    """
    if isinstance(message, str):
        raise MessageError("message: expected a binary frame holding a msgpack map, got text")
    fields = _unpacked(message)
    try:
        return _request(fields, observation_shape)
    except MessageError:
        raise
    except (ValueError, OverflowError) as error:
        raise MessageError(_one_line(error)) from None


def _unpacked(message: bytes) -> dict[Any, Any]:
    longest = len(message)
    try:
        fields = msgpack.unpackb(
            message,
            ext_hook=_refuse_extension,
            max_str_len=longest,
            max_bin_len=longest,
            max_array_len=longest,
            max_map_len=longest // 2,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MessageError(f"message: not msgpack, or truncated ({_one_line(error) or type(error).__name__})") from None
    if not isinstance(fields, dict):
        raise MessageError(f"message: expected a msgpack map, got {type(fields).__name__}")
    return fields


def _refuse_extension(code: int, data: bytes) -> Any:
    raise MessageError(f"extension type {code}")


def _request(fields: dict[Any, Any], shape: tuple[int, ...]) -> Request:
    unknown = [key for key in fields if key not in KEYS]
    if unknown:
        raise MessageError(f"message: unknown key {str(unknown[0])[:40]!r}; known are {', '.join(KEYS)}")
    given = [key for key in OBSERVATION_KEYS if key in fields]
    if len(given) > 1:
        raise MessageError(f"message: both {given[0]!r} and {given[1]!r}; send one observation")
    reset = _plain(fields.get("reset", False), "reset")
    if not isinstance(reset, bool):
        raise MessageError(f"reset: expected true or false, got {type(reset).__name__}")
    env_id = valid_env_id(_plain(fields.get("env_id"), "env_id"))
    session = fields.get("session")
    if session is not None and not valid_name(session):
        raise MessageError(f"session: expected a text of 1 to {LONGEST_NAME} printable characters")
    if not given:
        if not reset:
            raise MessageError(f"message: no observation (key {OBSERVATION_KEYS[0]!r}) and no reset")
        return Request(None, False, True, env_id, session)
    batch, batched = as_batch(_observation(fields[given[0]], given[0], shape), shape, given[0])
    if len(batch) != 1:
        raise MessageError(f"{given[0]}: one observation per message, got a batch of {len(batch)}; use env_id")
    return Request(batch, batched, reset, env_id, session)


def valid_env_id(value: Any) -> EnvId:
    """Return the id itself; `MessageError` unless it is None, a whole number of 64 bits or a short text."""
    if value is None or whole(value, -(2**63), 2**63 - 1) or valid_name(value):
        return value
    raise MessageError(f"env_id: expected a whole number or a text of 1 to {LONGEST_NAME} printable characters")


def valid_name(value: Any) -> bool:
    """Return whether the value can name a session."""
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


def _marked(value: dict[Any, Any], mark: str, names: tuple[str, ...], what: str) -> list[Any]:
    """Return the named entries of a marked map that has these entries and no others."""
    texts = _by_text(value)
    if texts.pop(mark, None) is not True or texts.keys() != set(names) or len(value) != len(names) + 1:
        raise MessageError(f"{what}: a map that is not an encoded array; expected {mark}, {', '.join(names)}")
    return [texts[name] for name in names]


def _by_text(value: dict[Any, Any]) -> dict[str, Any]:
    """Return a map with its keys as text: msgpack-numpy's are bytes."""
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): entry for key, entry in value.items()}


def _dtype(name: Any, what: str) -> np.dtype[Any]:
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise MessageError(f"{what}: dtype {str(name)[:40]!r} is not accepted; send numbers such as '<f4'")
    return dtype


def _observation(value: Any, what: str, shape: tuple[int, ...]) -> Any:
    """Read an encoded observation: an array, or a map of arrays where the policy takes dictionaries."""
    if not isinstance(shape, KeyedShape) or not isinstance(value, dict):
        return _array(value, what)
    texts = _by_text(value)
    if set(texts) != set(shape.parts):
        return _array(value, what)
    return {key: _array(entry, f"{what}/{key[:40]}") for key, entry in texts.items()}


def _array(value: Any, what: str) -> Any:
    """Return an encoded array as an array; anything else as it is, for `as_batch` to judge."""
    if not isinstance(value, dict):
        return value
    if b"__npgeneric__" in value or "__npgeneric__" in value:
        return _plain(value, what)
    data, dtype_name, shape = _marked(value, "__ndarray__", ("data", "dtype", "shape"), what)
    dtype = _dtype(dtype_name, what)
    if not isinstance(shape, list) or len(shape) > 32 or not all(whole(length, 0, 2**31) for length in shape):
        raise MessageError(f"{what}: a shape is a list of at most 32 whole numbers")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if not isinstance(data, bytes) or len(data) != size:
        raise MessageError(f"{what}: its data do not have the {size} bytes of {dtype.str} {tuple(shape)}")
    return np.frombuffer(data, dtype).reshape(shape)


def _plain(value: Any, what: str) -> Any:
    """Return a NumPy scalar as Python's own; anything else as it is."""
    if not isinstance(value, dict):
        return value
    data, dtype_name = _marked(value, "__npgeneric__", ("data", "dtype"), what)
    kind = _dtype(dtype_name, what).kind
    fits = {"b": isinstance(data, bool), "f": isinstance(data, float)}.get(kind, whole(data, -(2**63), 2**64 - 1))
    if not fits:
        raise MessageError(f"{what}: a scalar that is not of its dtype {dtype_name!r}")
    return data


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_COMPLAINT]


def encode_array(array: npt.NDArray[Any]) -> dict[bytes, Any]:
    """Return an array as the map that openpi's clients read."""
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}


pack = msgpack.Packer().pack
"""Encodes one reply or the metadata."""
