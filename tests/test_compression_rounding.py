"""A student's weights have 8 significant bits: as good to the third digit, and half of the room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, compress, convert
from snn_policy.bundle import read_bundle
from snn_policy.compression.compress import run_compression
from snn_policy.compression.judging import Judge, Verdict
from snn_policy.compression.rounding import SIGNIFICANT_BITS, SMALLEST, rounded
from snn_policy.compression.settings import CompressionSettings, Target
from snn_policy.compression.student import Student
from snn_policy.exported import names, path
from tests.actors import random_actor
from tests.bundles import file_of

pytestmark = pytest.mark.filterwarnings("ignore:.* was not reached")
STUDENTS = [name for name in names() if name.endswith("-compressed")]


def recording(rows: int) -> Any:
    return np.cumsum(np.random.default_rng(0).normal(scale=0.05, size=(rows, 11)), axis=0).astype(np.float32)


def some(size: int = 20_000) -> Any:
    """(size,) float32 of ten orders of magnitude."""
    rng = np.random.default_rng(1)
    return np.float32(rng.normal(size=size) * np.exp(rng.uniform(-8, 8, size)))


def arrays(actor: Actor) -> list[bytes]:
    return [layer.weight.tobytes() for layer in actor.layers]


def test_a_weight_changes_by_a_256th_at_most_and_by_a_half_of_that_step_at_least_once() -> None:
    weight = some()
    weight = weight[np.abs(weight) >= 2.0**-16]
    change = np.abs(rounded(weight) / weight - 1)
    assert 2.0**-9 < change.max() <= 2.0**-SIGNIFICANT_BITS == 1 / 256


@pytest.mark.parametrize(
    ("weight", "kept"),
    [
        (1.0, 1.0),
        (-0.1, -0.10009765625),  # 205/2048
        (1 + 1 / 256, 1.0),  # a tie: to even
        (1 + 3 / 256, 1 + 4 / 256),
        (255.5, 256.0),
        (1000.0, 1000.0),
        (1001.0, 1000.0),
        (0.4 * SMALLEST, 0.0),
        (-0.0, 0.0),
    ],
)
def test_the_nearest_of_eight_bits_is_kept(weight: float, kept: float) -> None:
    (found,) = rounded(np.array([weight], np.float32))
    assert found == kept
    assert found.dtype == np.float32
    assert not np.signbit(found) or found < 0


def test_what_is_rounded_stays_and_fits_into_float16() -> None:
    once = rounded(some())
    assert rounded(once).tobytes() == once.tobytes()
    assert np.array_equal(np.float32(np.float16(once)), once)
    assert len(np.unique(np.frexp(np.abs(once[once != 0]))[0])) <= 2**7


def test_zeros_have_no_sign_so_that_no_bundle_has_to_keep_it() -> None:
    pruned = some(1_000) * (np.arange(1_000) % 3 == 0)
    assert np.signbit(pruned[pruned == 0]).any()
    assert not np.signbit(rounded(pruned)[pruned == 0]).any()


def test_a_student_learns_with_all_bits_and_acts_with_eight() -> None:
    student = Student(random_actor(widths=(32, 32)), 0)
    for layer, weight in zip(student.actor().layers, student.weights, strict=True):
        learned = weight.detach().numpy()
        assert not np.array_equal(layer.weight, learned)
        assert np.array_equal(layer.weight, rounded(learned))


@pytest.mark.parametrize("count", ["spikes", "events"])
def test_what_comes_out_is_rounded_and_says_so(count: str) -> None:
    settings = CompressionSettings(
        Target.parse("energy:0.1"), steps=200, observations=600, added=0, batch=16, count=count
    )
    student = run_compression(random_actor(), settings, None, recording(600))
    assert student.provenance["compression"]["significant_bits"] == 8
    for layer in student.layers:
        assert rounded(layer.weight).tobytes() == layer.weight.tobytes()


def test_what_is_judged_is_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[list[bytes]] = []

    def verdict(self: Judge, policy: Any, wanted: float) -> Verdict:
        judged.append(arrays(policy.actor))
        return Verdict(0.01, 0.995, 0.001, episodes=50)

    monkeypatch.setattr(Judge, "verdict", verdict)
    teacher = read_bundle(path("td3-Pendulum-v1")).actor
    student = compress(teacher, target="energy:0.02", steps=200)
    assert arrays(student) in judged


def test_rounding_halves_the_stored_weights(tmp_path: Path) -> None:
    actor = random_actor(widths=(128, 128))
    kept = [np.random.default_rng(2).random(layer.weight.shape) < 0.3 for layer in actor.layers]

    def sized(name: str, change: Callable[[Any], Any], **options: Any) -> int:
        pairs = zip(actor.layers, kept, strict=True)
        layers = tuple(replace(layer, weight=change(layer.weight * mask)) for layer, mask in pairs)
        convert(replace(actor, graph=layers), recording(300)).save(tmp_path / name, xz=True, **options)
        return file_of(tmp_path / name, "weights").stat().st_size

    whole, small = sized("whole", np.float32), sized("small", rounded, dtype="float16")
    assert small < 0.55 * whole


@pytest.mark.parametrize("name", STUDENTS)
def test_shipped_students_are_rounded(name: str) -> None:
    bundle = read_bundle(path(name))
    assert bundle.card["compression"]["significant_bits"] == 8
    for layer in bundle.actor.layers:
        assert rounded(layer.weight).tobytes() == layer.weight.tobytes()


@pytest.mark.parametrize("name", [name for name in STUDENTS if name.startswith("td3-")])
def test_eight_bits_change_a_shipped_students_actions_by_less_than_a_hundredth(name: str) -> None:
    """The bits that are gone are drawn at random here."""
    actor, rng = read_bundle(path(name)).actor, np.random.default_rng(3)
    layers = []
    for layer in actor.layers:
        lost = np.float32(rng.uniform(-1, 1, layer.weight.shape) * 2.0**-9)
        layers.append(replace(layer, weight=layer.weight * (1 + lost)))
    observations = actor.collect(str(actor.env_id), 300, 9)
    one, other = (
        np.array([case.act(obs) for obs in observations]) for case in (actor, replace(actor, graph=tuple(layers)))
    )
    half = (one.max() - one.min()) / 2
    assert 0 < np.sqrt(np.mean((one - other) ** 2)) < 0.01 * half
