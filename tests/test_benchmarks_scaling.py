"""`benchmarks.scaling`: resized actors keep their function, sizes are those asked for, and the pictures are drawn."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.places import DOCS, RESULTS, ROOT, pictures_of, raw_of
from benchmarks.resizing import with_depth, with_width
from benchmarks.scaling import Sizes, measure_scaling
from benchmarks.scaling_points import ScalingPoint
from snn_policy import Actor
from snn_policy.ann.activations import Activation
from tests.actors import dyadic_image_actor, random_actor, walk

SIZES = Sizes(timesteps=(1, 4), width=(16, 80), depth=(1, 2, 3), batch=(1, 3))


@pytest.fixture(scope="module")
def actor() -> Actor:
    return random_actor(widths=(40, 32))


@pytest.fixture(scope="module")
def points(actor: Actor) -> list[ScalingPoint]:
    return measure_scaling(actor, walk(300), ("event", "numpy"), SIZES, rounds=2).points


@pytest.mark.parametrize("width", [40, 100, 320])
def test_a_wider_actor_keeps_its_function_and_its_silent_share(width: int, actor: Actor) -> None:
    observations = walk(500)
    wider = with_width(actor, width)
    assert wider.widths == (11, width, width)
    error = np.sqrt(np.mean((wider.act(observations) - actor.act(observations)) ** 2, axis=0))
    assert (error < 0.03 * (actor.high - actor.low)).all()
    active = [np.mean([(h > 0).mean() for h in given.activations(observations)[0][1:]]) for given in (actor, wider)]
    assert active[1] == pytest.approx(active[0], abs=0.05)


def test_copies_are_not_identical(actor: Actor) -> None:
    first, again = with_width(actor, 80).layers[0], with_width(actor, 80).layers[0]
    assert len(np.unique(first.weight, axis=0)) == 80
    assert np.array_equal(first.weight, again.weight)


def test_a_narrower_actor_has_some_of_the_units(actor: Actor) -> None:
    narrower = with_width(actor, 8)
    assert narrower.widths == (11, 8, 8)
    assert {tuple(row) for row in narrower.layers[0].weight} <= {tuple(row) for row in actor.layers[0].weight}


def test_a_deeper_relu_actor_is_the_same_function(actor: Actor) -> None:
    deeper = with_depth(actor, 5)
    assert len(deeper.hidden) == 5
    assert np.allclose(deeper.act(walk(50)), actor.act(walk(50)), atol=1e-6)


def test_what_cannot_be_resized_is_refused(actor: Actor) -> None:
    with pytest.raises(ValueError, match="2 hidden layers already"):
        with_depth(actor, 1)
    with pytest.raises(ValueError, match="only linear layers"):
        with_width(dyadic_image_actor(), 8)


def test_every_axis_is_measured_at_every_size(points: list[ScalingPoint]) -> None:
    found = {(point.axis, point.value) for point in points}
    assert found == {("timesteps", 1), ("timesteps", 4), ("width", 16), ("width", 80), ("depth", 2), ("depth", 3),
                     ("batch", 1), ("batch", 3)}  # fmt: skip
    assert {point.neuron for point in points if point.axis == "width"} == {
        "sigma-delta 0.02", "MT differential T=4", "IF T=8"
    }  # fmt: skip
    assert {point.axis for point in points if point.engine == "numpy"} == {"batch"}
    assert all(point.ratio > 0 and 0 < point.median <= point.p99 for point in points)


def test_operations_are_those_of_one_decision(points: list[ScalingPoint], actor: Actor) -> None:
    rate = {point.value: point for point in points if point.axis == "timesteps" and point.neuron == "IF"}
    assert 0 < rate[1].synaptic_operations < rate[4].synaptic_operations < 4 * actor.dense_macs
    assert rate[1].multiply_accumulates == rate[4].multiply_accumulates == actor.layers[0].macs
    assert rate[1].dense_macs == actor.dense_macs == 11 * 40 + 40 * 32 + 32 * 3


def test_sizes_that_cannot_be_are_noted() -> None:
    actor = random_actor(activation=Activation("tanh"), widths=(8, 8))
    few = Sizes(timesteps=(1,), width=(), depth=(1, 2), batch=())
    measured = measure_scaling(actor, walk(300), ("event",), few, rounds=1)
    assert "depth 1: left out: the actor has 2 hidden layers" in measured.notes
    left_out = "timesteps: left out: IF and MT differential neurons do not stand for the actor's activations"
    assert left_out in measured.notes
    assert [point.neuron for point in measured.points] == ["sigma-delta 0.02"]


def test_pictures_are_drawn_for_light_and_dark_pages(points: list[ScalingPoint], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    written = draw(points, "an actor", tmp_path / "new")
    assert sorted(path.name for path in written) == [
        "operations_dark.png", "operations_light.png", "scaling_dark.png", "scaling_light.png"
    ]  # fmt: skip
    for path in written:
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert width == 900
        assert 400 < height < 800
        assert len(content) < 200_000


def test_the_command_measures_draws_and_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.scaling as scaling

    pytest.importorskip("matplotlib")
    actor = random_actor(shape=(3,), widths=(8,), outputs=1)
    monkeypatch.setattr(actor, "env_id", "Pendulum-v1")
    monkeypatch.setattr(actor, "collect", lambda env, progress: walk(200, (3,)))
    monkeypatch.setattr(scaling, "read_actor", lambda source: actor)
    monkeypatch.setattr(scaling, "Sizes", lambda: Sizes((1,), (16,), (1,), (2,)))
    file = tmp_path / "scaling.json"
    scaling.main("x", engines="event", plot=tmp_path, rounds=1, json=str(file))
    measured = json.loads(file.read_text())
    assert {point["axis"] for point in measured["points"]} == {"timesteps", "width", "depth", "batch"}
    assert (tmp_path / "scaling_dark.png").is_file()


@pytest.mark.parametrize(
    ("program", "data", "pictures"),
    [("plot_scaling", "scaling.json", 4), ("plot_energy_return", "results.json", 2)],
)
def test_pictures_go_where_they_are_told_to(program: str, data: str, pictures: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    before = {file: file.stat().st_mtime_ns for folder in (DOCS, RESULTS) for file in folder.iterdir()}
    measured = tmp_path / "measured" / data
    measured.parent.mkdir()
    measured.write_bytes((RESULTS / data).read_bytes())
    given = [str(measured)] if program == "plot_scaling" else ["--results", str(measured)]
    for out in (measured.parent, tmp_path / "elsewhere"):
        told = ["--out", str(out)] if out != measured.parent else []
        command = [sys.executable, "-m", f"benchmarks.{program}", *given, *told]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        drawn = {file for file in out.iterdir() if file.suffix in (".png", ".svg")}
        assert {Path(line) for line in done.stdout.split()} == drawn
        assert len(drawn) == pictures
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_the_documentations_pictures_stand_apart_from_their_figures() -> None:
    assert pictures_of(RESULTS / "scaling.json") == DOCS
    assert pictures_of(Path("run/scaling.json")) == Path("run")
    assert raw_of(DOCS) == RESULTS
    assert raw_of(Path("run")) == Path("run")
