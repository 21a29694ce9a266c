"""The message decoder: a request or one `MessageError`, whatever the bytes are."""

import pickle
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy.serving.wire import DTYPES, MessageError, decode_request, encode_array, most_bytes
from tests.fuzz import decodes_or_refuses, hostile_messages
from tests.serving import packed

OBS = np.arange(4, dtype=np.float32)
ARRAY = encode_array(OBS)


def array(**changes: Any) -> dict[bytes, Any]:
    return {**ARRAY, **{name.encode(): value for name, value in changes.items()}}


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize("key", ["observation", "obs", "state", "observation/state"])
def test_an_observation_has_any_of_four_names(key: str):
    request = decode_request(packed(**{key: OBS}), (4,))
    assert np.array_equal(request.observation, [OBS])  # pyright: ignore[reportArgumentType]
    assert request[1:] == (False, False, None, None)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_real_dtype_is_read(dtype: np.dtype):
    assert np.array_equal(decode_request(packed(obs=OBS.astype(dtype)), (4,)).observation[0], OBS.astype(dtype))  # pyright: ignore


def test_text_keys_numpy_scalars_and_lists_are_read_as_well():
    texts = {key.decode(): value for key, value in ARRAY.items()}
    scalar = {b"__npgeneric__": True, b"data": 3, b"dtype": "<i8"}
    flag = {b"__npgeneric__": True, b"data": True, b"dtype": "|b1"}
    request = decode_request(packed(obs=texts, env_id=scalar, reset=flag), (4,))
    assert (request.env_id, request.reset) == (3, True)
    assert decode_request(packed(obs=[[0, 1.5], [2, 3]]), (2, 2)).observation.shape == (1, 2, 2)  # pyright: ignore
    assert decode_request(packed(obs=scalar), ()).observation.shape == (1,)  # pyright: ignore


WRONG: list[tuple[str, bytes | str, str]] = [
    ("text", '{"reset": true}', "binary"),
    ("nothing", b"", "truncated"),
    ("truncated", packed(obs=OBS)[:-3], "truncated"),
    ("more behind it", packed(obs=OBS) + b"\x00", "extra data"),
    ("a pickle", pickle.dumps({"obs": OBS}), "message:"),
    ("no map", packed(obs=OBS)[1:12], "message:"),
    ("a list", b"\x93\x01\x02\x03", "expected a msgpack map, got list"),
    ("an empty map", packed(), "no observation"),
    ("a gigabyte of bytes announced", b"\x81\xa3obs\xc6\x40\x00\x00\x00", "message:"),
    ("a gigabyte of text announced", b"\x81\xdb\x40\x00\x00\x00", "message:"),
    ("a billion entries announced", b"\xdf\x40\x00\x00\x00", "message:"),
    ("a billion elements announced", b"\x81\xa3obs\xdd\x40\x00\x00\x00", "message:"),
    ("an extension of a gigabyte", b"\x81\xa3obs\xc9\x40\x00\x00\x00\x05", "message:"),
    ("an extension", b"\x81\xa3obs\xd4\x05\x00", "message:"),
    ("a time", msgpack.packb({"obs": msgpack.Timestamp(1, 2)}) or b"", "message:"),
    ("depth", b"\x81\xa3obs" + nested(900), "obs"),
    ("great depth", b"\x81\xa3obs" + nested(4000), "message:"),
    ("a key that is no text", b"\x81\x01\x02", "message:"),
    ("bad UTF-8", b"\x81\xa2\xff\xfe\x01", "message:"),
    ("an unknown key", packed(obs=OBS, prompt="pick up"), "unknown key 'prompt'"),
    ("two observations", packed(obs=OBS, state=OBS), "both 'obs' and 'state'"),
    ("reset as a number", packed(obs=OBS, reset=1), "reset: expected true or false"),
    ("no reset and nothing", packed(reset=False), "no observation"),
    ("env_id a float", packed(obs=OBS, env_id=1.0), "env_id"),
    ("env_id a flag", packed(obs=OBS, env_id=True), "env_id"),
    ("env_id long", packed(obs=OBS, env_id="x" * 65), "env_id"),
    ("env_id with a newline", packed(obs=OBS, env_id="a\nb"), "env_id"),
    ("session empty", packed(obs=OBS, session=""), "session"),
    ("session a number", packed(obs=OBS, session=7), "session"),
    ("wrong shape", packed(obs=OBS[:3]), r"expected shape \(4,\).*got \(3,\)"),
    ("a batch", packed(obs=np.stack([OBS, OBS])), "one observation per message"),
    ("an empty batch", packed(obs=OBS[None][:0]), "empty"),
    ("NaN", packed(obs=OBS * np.float32(np.nan)), "not finite"),
    ("infinity", packed(obs=np.array([0, 0, np.inf, 0])), r"at index \(2,\)"),
    ("too large", packed(obs=np.array([0, 0, 0, 1e31])), r"at index \(3,\)"),
    ("nothing as observation", packed(obs=None), "obs"),
    ("text as observation", packed(obs="0123"), "obs"),
    ("texts as observation", packed(obs=["0", "1", "2", "3"]), "obs"),
    ("ragged lists", packed(obs=[[1, 2], [3]]), "obs"),
    ("an object dtype", packed(obs=array(dtype="|O")), "dtype '|O'"),
    ("a structured dtype", packed(obs=array(dtype="f4,f4")), "dtype"),
    ("complex numbers", packed(obs=array(dtype="<c8")), "dtype"),
    ("a dtype that is no text", packed(obs=array(dtype=4)), "dtype"),
    ("data too short", packed(obs=array(data=b"\x00" * 15)), "16 bytes"),
    ("data that are a text", packed(obs=array(data="0" * 16)), "16 bytes"),
    ("a shape that lies", packed(obs=array(shape=[2**31, 2**31, 4])), "bytes"),
    ("a negative shape", packed(obs=array(shape=[-4])), "shape"),
    ("a shape of floats", packed(obs=array(shape=[4.0])), "shape"),
    ("a shape of flags", packed(obs=array(shape=[True] * 4)), "shape"),
    ("a shape of a thousand axes", packed(obs=array(shape=[1] * 1000)), "shape"),
    ("an array with more in it", packed(obs=array(extra=1)), "encoded array"),
    ("an array without its mark", packed(obs={b"data": b"", b"dtype": "<f4", b"shape": [0]}), "encoded array"),
    ("a mark that is not true", packed(obs=array(__ndarray__=1)), "encoded array"),
    ("a scalar of another type", packed(obs=OBS, env_id={b"__npgeneric__": True, b"data": 1.5, b"dtype": "<i8"}),
     "scalar"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_no_request_is_one_clear_line(message: bytes | str, says: str):
    with pytest.raises(MessageError, match=says) as refused:
        decode_request(message, (4,))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_every_truncation_of_a_request_is_refused():
    message = packed(obs=OBS, env_id="left", reset=True, session="s")
    for length in range(len(message)):
        with pytest.raises(MessageError):
            decode_request(message[:length], (4,))


def test_the_size_limit_leaves_room_for_lists_of_doubles():
    assert len(packed(obs=[0.1] * 1000, session="s" * 64)) < most_bytes((1000,)) < 2**14


@settings(max_examples=2000)
@given(hostile_messages())
def test_any_bytes_are_a_request_or_refused(message: bytes):
    decodes_or_refuses(message)


@settings(max_examples=200)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**99), max_value=2.0**99))
def test_numbers_arrive_to_the_bit(value: float):
    observation = decode_request(packed(obs=np.full(4, value, np.float32)), (4,)).observation
    assert observation is not None
    assert (observation == np.float32(value)).all()
