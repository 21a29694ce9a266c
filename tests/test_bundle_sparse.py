"""Sparse weights in bundles: smaller, the same to the bit, and one clear error for what does not belong together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from snn_policy import SourceError, SpikingPolicy
from snn_policy.bundle import document, read_bundle
from snn_policy.bundle.sparse import compact_weights, restored_weight
from snn_policy.exported import names, path
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import dyadic_actor, dyadic_image_actor, pruned, random_actor, sigma_delta_neurons
from tests.bundles import file_of
from tests.test_bundle_hostile import ODD, forge, loads_or_refuses, original, paths, replaced

ACTORS: dict[str, Any] = {
    "one by one": lambda: pruned(random_actor(widths=(64, 64)), 0.2),
    "blocks of 16": lambda: pruned(random_actor(widths=(64, 64)), 0.3, 16),
    "images": lambda: pruned(dyadic_image_actor(), 0.3),
    "all zero": lambda: pruned(random_actor(widths=(64, 64)), 0.0),
}


def saved(actor: Any, directory: Path) -> Path:
    SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)), engine="numpy").save(directory)
    return directory


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(pruned(dyadic_actor(widths=(40, 30)), 0.2), tmp_path_factory.mktemp("sparse"))


@pytest.mark.parametrize("name", ACTORS)
def test_sparse_weights_come_back_to_the_bit_from_fewer_bytes(name: str, tmp_path: Path) -> None:
    actor = ACTORS[name]()
    directory = saved(actor, tmp_path)
    assert original(directory)["format_version"] == 2
    found = read_bundle(directory).actor
    for mine, theirs in zip(found.layers, actor.layers, strict=True):
        assert mine.weight.tobytes() == theirs.weight.tobytes()
        assert mine.fan_out.tolist() == theirs.fan_out.tolist()
    values = sum(np.count_nonzero(layer.weight) for layer in actor.layers)
    weights = sum(layer.weight.size for layer in actor.layers)
    stored = load(file_of(directory, "weights").read_bytes())
    others = sum(array.nbytes for name, array in stored.items() if "weight" not in name)
    assert file_of(directory, "weights").stat().st_size < 4 * values + weights / 4 + others + 4096


def test_zeros_with_a_sign_are_kept() -> None:
    weight = np.zeros((40, 40), np.float32)
    weight[5, 6] = 1e-45
    for minus in (False, True):
        weight[3, 4] = -0.0 if minus else 0
        arrays, entry = {"layers.0.weight": weight}, {}
        assert compact_weights([entry], arrays)
        assert {name.rpartition(".")[2] for name in arrays} == {"mask", "values", *(["minus"] if minus else [])}
        back = restored_weight("w", entry["weight_shape"], *arrays.values(), most_bytes=10**6)
        assert back.tobytes() == weight.tobytes()


@pytest.mark.parametrize("density", [0.9, 1.0])
def test_dense_and_small_weights_stay_as_every_release_reads_them(density: float, tmp_path: Path) -> None:
    for actor in (pruned(random_actor(widths=(30, 30)), density), pruned(dyadic_actor(widths=(6,)), 0.1)):
        if density == 1.0:
            actor = random_actor(widths=(30, 30))
        directory = saved(actor, tmp_path)
        document = original(directory)
        stored = load(file_of(directory, "weights").read_bytes())
        sizes = [layer.weight.nbytes for layer in actor.layers]
        for index, size in enumerate(sizes):
            kept = int((actor.layers[index].weight != 0).sum()) * 4 + size / 16 + 256 >= size
            assert (f"layers.{index}.weight" in stored) == kept
        whole = all(f"layers.{index}.weight" in stored for index in range(len(sizes)))
        assert document["format_version"] == (1 if whole else 2)


def test_shipped_bundles_are_read_as_they_are() -> None:
    for name in names():
        document, read = json.loads((path(name) / "policy.json").read_text()), read_bundle(path(name))
        sparse = read.actor.synapses < read.actor.dense_macs and "compressed" in name
        carries = getattr(read.network.neurons, "carries", False)
        assert document["format_version"] == (2 if sparse or carries else 1)
        assert read.actor.synapses > 0


def test_half_precision_is_stored_sparsely_too(tmp_path: Path) -> None:
    actor = pruned(random_actor(widths=(64, 64)), 0.2)
    policy = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)), engine="numpy")
    policy.save(tmp_path, dtype="float16")
    stored = load(file_of(tmp_path, "weights").read_bytes())
    assert stored["layers.1.weight.values"].dtype == np.float16
    rounded = actor.layers[1].weight.astype(np.float16).astype(np.float32)
    assert np.array_equal(read_bundle(tmp_path).actor.layers[1].weight, rounded)


@pytest.mark.parametrize("value", [0, 3, True, None, "2", 2.5, -1])
def test_other_format_versions_are_refused(sparse: Path, value: Any) -> None:
    with pytest.raises(SourceError, match="this release reads 1 and 2"):
        SpikingPolicy.load(forge(sparse, replaced(original(sparse), ("format_version",), value)))


@pytest.mark.parametrize(
    "shape",
    [[30, 41], [30], [29, 40], [], [0, 40], [-30, -40], [30.0, 40.0], [2**31, 2**31], [2**16, 2**15], "30x40", None,
     [True, 1200], [1] * 9, [30, 40, 1, 1, 1], {"0": 30}],
)  # fmt: skip
def test_a_shape_that_does_not_fit_its_mask_is_one_error(sparse: Path, shape: Any) -> None:
    forged = forge(sparse, replaced(original(sparse), ("actor", "layers", 1, "weight_shape"), shape))
    with pytest.raises(SourceError, match="damaged bundle"):
        SpikingPolicy.load(forged)


def test_a_shape_takes_no_memory_before_it_is_checked() -> None:
    mask, values = np.zeros(2**10, np.uint8), np.zeros(0, np.float32)
    with pytest.raises(ValueError, match="takes more than 1000 bytes"):
        restored_weight("w", [2**15, 2**15], mask, values, most_bytes=1000)
    with pytest.raises(ValueError, match="expected a mask of 134217728 bytes"):
        restored_weight("w", [2**15, 2**15], mask, values, most_bytes=2**40)


def test_all_layers_together_are_bounded(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(layer.weight.nbytes for layer in read_bundle(sparse).actor.layers)
    monkeypatch.setattr(document, "MOST_WEIGHT_BYTES", size)
    read_bundle(sparse)
    monkeypatch.setattr(document, "MOST_WEIGHT_BYTES", size - 4 * 60 - 1)
    with pytest.raises(SourceError, match=r"takes more than|more than the"):
        read_bundle(sparse)


@pytest.mark.parametrize(
    "change",
    ["cut mask", "long mask", "a bit more", "a bit less", "cut values", "long values", "two axes", "int values",
     "int8 mask", "bits beyond", "nan", "no mask", "no values", "cut minus", "bits beyond minus"],
)  # fmt: skip
@pytest.mark.parametrize("layer", [0, 1])
def test_masks_and_values_that_do_not_belong_together_are_one_error(sparse: Path, change: str, layer: int) -> None:
    arrays, name = load(file_of(sparse, "weights").read_bytes()), f"layers.{layer}.weight"
    mask, values = arrays[f"{name}.mask"].copy(), arrays[f"{name}.values"].copy()
    if change == "a bit more":
        mask[np.flatnonzero(mask != 255)[0]] = 255
    elif change == "a bit less":
        mask[np.flatnonzero(mask)[0]] = 0
    elif change == "nan":
        values[0] = np.nan
    longer, one_more = np.append(mask, np.uint8(1)), np.append(values, np.float32(1))
    masks: dict[str, Any] = {"cut mask": mask[:-1], "long mask": np.append(mask, np.uint8(0)), "bits beyond": longer,
                             "int8 mask": mask.view(np.int8)}  # fmt: skip
    rows: dict[str, Any] = {"cut values": values[:-1], "long values": one_more, "bits beyond": one_more,
                            "two axes": values[None], "int values": values.view(np.int32)}  # fmt: skip
    mask, values = masks.get(change, mask), rows.get(change, values)
    if "minus" in change:
        minus = arrays[f"{name}.minus"]
        beyond = np.append(minus, np.uint8(1)) if change.startswith("bits") else minus[:-1]
        arrays[f"{name}.minus"] = beyond
    forged = {**arrays, f"{name}.mask": mask, f"{name}.values": values}
    if change.startswith("no "):
        del forged[f"{name}.{change[3:]}"]
    with pytest.raises(SourceError, match="damaged bundle"):
        SpikingPolicy.load(forge(sparse, original(sparse), save(forged)))


def test_every_value_of_a_sparse_bundle_replaced_by_every_odd_one(sparse: Path) -> None:
    document = original(sparse)
    for where in paths(document["actor"]["layers"], ("actor", "layers")):
        for value in ODD:
            loads_or_refuses(forge(sparse, replaced(document, where, value)))
