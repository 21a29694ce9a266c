"""How compressed policies get into `exported/`: rounded, measured as stored, and only if they keep the return."""

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from snn_policy import Actor, SpikingPolicy
from snn_policy.bundle import read_bundle
from snn_policy.compression.rounding import rounded
from snn_policy.exported import path
from tests.bundles import file_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def shipping(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("export_compressed")


@pytest.fixture
def renewing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("renew_cards")


@pytest.fixture
def student() -> Actor:
    return read_bundle(path("td3-Pendulum-v1-compressed")).actor


def found(monkeypatch: pytest.MonkeyPatch, shipping: ModuleType, kept: float, failed: float, ann_failed: float) -> None:
    """Let every comparison find that."""
    result = SimpleNamespace(retention_of_means=kept, snn_failed=failed, ann_failed=ann_failed)
    monkeypatch.setattr(shipping, "compare", lambda *policies, **options: result)
    monkeypatch.setattr(shipping, "returns_card", vars)


@pytest.mark.parametrize(("kept", "failed", "ann_failed"), [(0.989, 0.0, 0.0), (0.995, 0.05, 0.02), (-1.0, 0.0, 0.0)])
def test_what_loses_its_return_or_fails_more_often_is_not_written(
    kept: float, failed: float, ann_failed: float, shipping: ModuleType, student: Actor,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    found(monkeypatch, shipping, kept, failed, ann_failed)
    with pytest.raises(SystemExit, match=f"td3-Pendulum-v1: not shipped: it keeps {kept:.3f}"):
        shipping.ship("td3-Pendulum-v1", student, 1, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("kept", "failed", "ann_failed"), [(0.991, 0.02, 0.0), (1.0, 0.28, 0.28)])
def test_what_keeps_it_is_written_as_float16_and_xz(
    kept: float, failed: float, ann_failed: float, shipping: ModuleType, student: Actor,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    found(monkeypatch, shipping, kept, failed, ann_failed)
    shipping.ship("td3-Pendulum-v1", student, 1, tmp_path / "bundle")
    weights = file_of(tmp_path / "bundle", "weights")
    assert weights.suffix == ".xz"
    assert weights.stat().st_size < 25_000
    read = SpikingPolicy.load(tmp_path / "bundle")
    assert [layer.weight.tobytes() for layer in read.actor.layers] == [
        layer.weight.tobytes() for layer in student.layers
    ]
    assert read.card["returns"]["retention_of_means"] == kept
    assert json.loads((tmp_path / "bundle/policy.json").read_text())["card"]["compression"]["teacher"]


def test_an_older_student_is_rounded_when_its_card_is_renewed(renewing: ModuleType) -> None:
    original = read_bundle(path("td3-Pendulum-v1")).actor
    record: dict[str, Any] = {"teacher": "td3-Pendulum-v1", "tolerance": 0.03}
    older = Actor(
        original.layers, original.head, original.observation_shape, name="older", provenance={"compression": record}
    )
    small = renewing.rounded_student(older)
    assert small.provenance["compression"] == {**record, "significant_bits": 8}
    assert older.provenance["compression"] == record
    for layer, before in zip(small.layers, older.layers, strict=True):
        assert layer.weight.tobytes() == rounded(before.weight).tobytes() != before.weight.tobytes()


def test_of_compressed_policies_none_is_renewed_without_its_name(renewing: ModuleType) -> None:
    renewed = renewing.vector_policies()
    assert {"td3-Hopper-v5", "sac-finger-spin"} < set(renewed)
    assert not [name for name in renewed if name.endswith("-compressed") or name.startswith("pixels-")]
