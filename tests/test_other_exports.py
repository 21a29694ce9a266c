"""Saving a policy beside another one's C, TorchScript or NIR says so in one line; beside its own, nothing is said."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.ann.layers import Linear
from tests.actors import random_actor, walk

ROWS = walk(300, (5,))
ACTOR = random_actor(shape=(5,), widths=(16, 16))
EXPORTS: dict[str, Callable[[SpikingPolicy, Path], Any]] = {
    "policy.h": lambda policy, place: policy.export_c(place, verify=False),
    "src/snn_policy.h": lambda policy, place: policy.export_c(place, verify=False, layout="arduino"),
    "policy.pt": lambda policy, place: policy.export_torchscript(place / "policy.pt", verify=False),
    "policy.nir": lambda policy, place: policy.export_nir(place / "policy.nir", verify=False),
}
SAVINGS: dict[str, Callable[[SpikingPolicy, Path], Any]] = {
    "save": lambda policy, place: policy.save(place),
    "float16": lambda policy, place: policy.save(place, dtype="float16", observations=ROWS),
    "xz": lambda policy, place: policy.save(place, xz=True),
    "onnx": lambda policy, place: policy.export_onnx(place),
}


def made(name: str, **options: Any) -> SpikingPolicy:
    """A policy that the export takes: NIR holds IF neurons alone."""
    if name == "policy.nir":
        return convert(ACTOR, ROWS, neuron="if", coding="rate", timesteps=4 if options else 8)
    return convert(ACTOR, ROWS, **options)


def said(do: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        do()
    return [str(warning.message) for warning in caught if "exported from another policy" in str(warning.message)]


@pytest.mark.parametrize("saving", SAVINGS)
@pytest.mark.parametrize("name", EXPORTS)
def test_another_policys_export_is_told_and_stays_and_ones_own_is_not(name: str, saving: str, tmp_path: Path) -> None:
    policy, other, save = made(name), made(name, tolerance=0.3), SAVINGS[saving]
    EXPORTS[name](policy, tmp_path)
    content = (tmp_path / name).read_bytes()
    assert said(lambda: save(policy, tmp_path)) == []
    assert said(lambda: SAVINGS["save"](SpikingPolicy.load(tmp_path), tmp_path)) == []
    (line,) = said(lambda: save(other, tmp_path))
    assert line == f"{tmp_path}: {name}: exported from another policy than the one saved here; export anew, or delete"
    assert (tmp_path / name).read_bytes() == content
    EXPORTS[name](other, tmp_path)
    assert said(lambda: save(other, tmp_path)) == []


def test_all_of_them_are_named_in_one_line(tmp_path: Path) -> None:
    policy = made("policy.h")
    for name in ("policy.h", "policy.pt"):
        EXPORTS[name](policy, tmp_path)
    (tmp_path / "policy.pt").rename(tmp_path / "a\nb.pt")
    (line,) = said(lambda: made("policy.h", tolerance=0.3).save(tmp_path))
    assert "'a\\nb.pt', policy.h: exported from" in line
    assert "\n" not in line


def test_a_weight_or_a_bias_makes_another_policy_and_a_name_does_not(tmp_path: Path) -> None:
    policy = made("policy.h")
    EXPORTS["policy.h"](policy, tmp_path)

    def with_actor(**changes: Any) -> SpikingPolicy:
        return SpikingPolicy(replace(policy.network, actor=replace(ACTOR, **changes)))

    first, *rest = ACTOR.layers
    heavier = Linear(first.weight * np.float32(1.01), first.bias, first.activation)
    shifted = Linear(first.weight, first.bias + np.float32(0.01), first.activation)
    assert said(lambda: with_actor(name="renamed", env_id="Pendulum-v1").save(tmp_path)) == []
    assert len(said(lambda: with_actor(graph=(heavier, *rest)).save(tmp_path))) == 1
    assert len(said(lambda: with_actor(graph=(shifted, *rest)).save(tmp_path))) == 1


def test_pruned_weights_that_are_negative_zeros_are_the_same_policy(tmp_path: Path) -> None:
    first, *rest = ACTOR.layers
    pruned = Linear(np.where(abs(first.weight) < 0.5, np.float32(-0.0), first.weight), first.bias, first.activation)
    policy = convert(replace(ACTOR, graph=(pruned, *rest)), ROWS)
    policy.save(tmp_path)
    loaded = SpikingPolicy.load(tmp_path)
    EXPORTS["policy.h"](policy, tmp_path)
    assert said(lambda: loaded.save(tmp_path)) == []


SILENT: dict[str, bytes] = {
    "empty": b"",
    "of an earlier release": b"/* A spiking policy in C */",
    "a word": b"network-sha256-none",
    "half a digest": b"network-sha256-" + 40 * b"0",
}


@pytest.mark.parametrize("content", SILENT)
def test_files_that_do_not_say_what_they_are_of_are_passed_over(content: str, tmp_path: Path) -> None:
    for name in ("policy.h", "policy.pt", "policy.nir"):
        (tmp_path / name).write_bytes(SILENT[content])
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nowhere")
    assert said(lambda: made("policy.h").save(tmp_path)) == []
