"""Bundles whose weights are compressed by xz: the same policy to the bit, whole at all times, harmless when hostile."""

import copy
import lzma
import pickle
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from snn_policy import SourceError, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.layers import Head, Linear
from snn_policy.bundle import document, xz
from tests.actors import dyadic_observations, policies, random_actor, walk
from tests.bundles import file_of

KINDS = ("sigma-delta", "sigma-delta-carrying", "mt-differential")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def neurons_in(directory: Path) -> str:
    return type(SpikingPolicy.load(directory).network.neurons).__name__


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """The directory of a policy whose weights are compressed."""
    policies()["sigma-delta"].save(tmp_path / "packed", xz=True)
    return tmp_path / "packed"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_saved_plain(kind: str, tmp_path: Path) -> None:
    policies()[kind].save(tmp_path / "plain")
    policies()[kind].save(tmp_path / "packed", xz=True)
    document_name, weights_name = names(tmp_path / "plain")
    assert names(tmp_path / "packed") == [document_name, f"{weights_name}.xz"]
    assert (tmp_path / "packed/policy.json").read_bytes() == (tmp_path / "plain/policy.json").read_bytes()
    with lzma.open(file_of(tmp_path / "packed", "weights")) as file:  # as `xz -d` would
        assert file.read() == file_of(tmp_path / "plain", "weights").read_bytes()
    one, other = (SpikingPolicy.load(tmp_path / name) for name in ("plain", "packed"))
    for obs in dyadic_observations(20):
        assert np.array_equal(one.act(obs), other.act(obs))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.9), ("float16", 0.5)])
def test_random_weights_take_nine_tenths_of_the_room(dtype: str, most: float, tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(64, 64), outputs=1), walk(100))
    policy.save(tmp_path / "plain")
    policy.save(tmp_path / "packed", xz=True, dtype=dtype, observations=walk(10))
    plain, packed = (file_of(tmp_path / name, "weights").stat().st_size for name in ("plain", "packed"))
    assert packed < most * plain
    assert SpikingPolicy.load(tmp_path / "packed").network.actor.graph.widths == policy.actor.graph.widths


@pytest.mark.parametrize("order", [(False, True), (True, False), (True, True)])
def test_either_form_replaces_the_other(order: tuple[bool, bool], tmp_path: Path) -> None:
    for form in order:
        policies()["sigma-delta"].save(tmp_path, xz=form)
    assert len(names(tmp_path)) == 2
    assert names(tmp_path)[1].endswith(".xz") == order[-1]
    policies()["mt-differential"].save(tmp_path, xz=not order[-1])
    assert len(names(tmp_path)) == 2
    assert neurons_in(tmp_path) == "MembraneNeurons"


@pytest.mark.parametrize("form", [False, True])
def test_a_reader_meanwhile_gets_one_of_the_two(form: bool, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, waiting = document._read, [policies()["mt-differential"]]

    def replaced_in_between(path: Path, most_bytes: int) -> bytes:
        content = read(path, most_bytes)
        if waiting:
            waiting.pop().save(packed, xz=form)
        return content

    monkeypatch.setattr(document, "_read", replaced_in_between)
    assert neurons_in(packed) == "MembraneNeurons"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda packed: b"", "truncated"),
        (lambda packed: packed[:20], "truncated"),
        (lambda packed: packed[:-1], "truncated"),
        (lambda packed: packed + b"\0\0\0\0", "after its end"),
        (lambda packed: packed + packed, "after its end"),
        (lambda packed: b"no stream but as long as one has to be", "no xz file"),
        (flipped, "no xz file"),
        (lambda packed: lzma.compress(b"other weights"), "not the weights that policy.json names"),
        (lambda packed: lzma.compress(lzma.decompress(packed), lzma.FORMAT_ALONE), "no xz file"),
    ],
)
def test_damaged_files_are_one_line(forge, reason: str, packed: Path) -> None:
    place = file_of(packed, "weights")
    place.write_bytes(forge(place.read_bytes()))
    with pytest.raises(SourceError, match=reason) as caught:
        SpikingPolicy.load(packed)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_small_file_asks_for_little_memory(packed: Path) -> None:
    bomb = lzma.compress(bytes(100 * 2**20))
    assert len(bomb) < 20_000
    file_of(packed, "weights").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="hold more than"):
            SpikingPolicy.load(packed)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_a_decoder_that_asks_for_much_memory_is_refused() -> None:
    forged = bytearray(lzma.compress(b"weights", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]))
    assert xz.decompress(bytes(forged), 100) == b"weights"
    header = 12  # of the stream; then the block's: size, flags, filter, size of properties, dictionary, padding, CRC32
    assert forged[header + 2 : header + 4] == b"\x21\x01"
    forged[header + 4] = 37  # 1.5 GiB
    size = (forged[header] + 1) * 4
    total = zlib.crc32(forged[header : header + size - 4]).to_bytes(4, "little")
    forged[header + size - 4 : header + size] = total
    with pytest.raises(ValueError, match=r"no xz file that could be read .*[Mm]emory"):
        xz.decompress(bytes(forged), 100)


@pytest.mark.parametrize(("size", "most", "reason"), [(101, 100, "hold more than 100"), (100, 100, None)])
def test_no_more_is_read_than_asked_for(size: int, most: int, reason: str | None) -> None:
    content = bytes(range(size))
    if reason is None:
        assert xz.decompress(xz.compress(content), most) == content
        return
    with pytest.raises(ValueError, match=reason):
        xz.decompress(xz.compress(content), most)


def test_weights_that_would_not_be_read_are_not_written(tmp_path: Path) -> None:
    layers = (Linear(np.full((700, 700), 0.5, np.float32), np.zeros(700, np.float32)),)
    actor = Actor(layers, Head.bounded(np.full(700, -1.0), np.full(700, 1.0)), (700,), None)  # pyright: ignore
    policy = convert(actor, np.random.default_rng(0).normal(size=(8, 700)).astype(np.float32))
    with pytest.raises(ValueError, match="save them without xz"):
        policy.save(tmp_path / "run", xz=True)
    assert not (tmp_path / "run").exists()


def test_without_lzma_plain_bundles_work_and_others_say_why(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xz, "lzma", None)
    with pytest.raises(SourceError, match="built without lzma"):
        SpikingPolicy.load(packed)
    with pytest.raises(ValueError, match="built without lzma"):
        policies()["mt-differential"].save(packed, xz=True)
    policies()["mt-differential"].save(packed)
    assert neurons_in(packed) == "MembraneNeurons"


def is_packed(directory: Path) -> bool:
    return file_of(directory, "weights").suffix == ".xz"


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_is_saved_and_exported_as_its_bundle_was(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    for xz_given in (True, False):
        place = tmp_path / str(xz_given)
        policies()[kind].save(place, xz=xz_given)
        loaded = SpikingPolicy.load(place)
        loaded.save(place)
        SpikingPolicy.load(place).export_onnx(place)
        copy.deepcopy(loaded).save(place / "copy")
        pickle.loads(pickle.dumps(loaded)).save(place / "pickle")
        assert [is_packed(one) for one in (place, place / "copy", place / "pickle")] == [xz_given] * 3
        loaded.save(place, xz=not xz_given)
        assert is_packed(place) is not xz_given


def test_float16_is_saved_as_the_bundle_was(packed: Path) -> None:
    SpikingPolicy.load(packed).save(packed, dtype="float16")
    assert is_packed(packed)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_weights_are_called_by_both_of_their_names(kind: str, tmp_path: Path) -> None:
    policies()[kind].save(tmp_path, xz=True)
    place = file_of(tmp_path, "weights")
    place.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        SpikingPolicy.load(tmp_path)
    assert f"{place.with_suffix('')}: no such file (nor {place.name})" in str(caught.value)
