"""compress for actors that see pictures: kernels are pruned as the engines run them, and all counts agree."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_policy import (
    Actor,
    OnnxPolicy,
    SourceError,
    SpikingPolicy,
    UnsupportedLayerError,
    compress,
    convert,
    load_actor,
)
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.open_loop import Recording
from snn_policy.calibration.sensitivity import _sensitivities as calibrated_sensitivities
from snn_policy.cli import main
from snn_policy.compression import pictures
from snn_policy.compression.checkpoints import CHECKPOINT_FILE, RUN_FILE
from snn_policy.compression.compress import run_compression
from snn_policy.compression.distillation import Distillation
from snn_policy.compression.judging import energy_share, synaptic_operations
from snn_policy.compression.loss import COUNTS
from snn_policy.compression.maps import ConvolutionMap
from snn_policy.compression.pictures import Pictures, moved, states_of, thinned
from snn_policy.compression.profile import Profile, profile
from snn_policy.compression.pruning import blocked, operations, prune
from snn_policy.compression.settings import MOST_PICTURE_BYTES, CompressionSettings, Target, numbers_of_states
from snn_policy.compression.states import States
from snn_policy.compression.student import Student
from snn_policy.compression.tolerances import Conversion
from snn_policy.spiking import sigma_delta
from tests.actors import random_actor
from tests.compiled_policy import CompiledPolicy
from tests.picture_actors import PICTURE, Square, picture_actor, recording
from tests.test_compression import Stopped, arrays, rewritten

pytestmark = pytest.mark.filterwarnings("ignore:.* was not reached")
GEOMETRIES = [
    ((5, 3, 3, 3), (3, 9, 8), (1, 1), (0, 0)),
    ((20, 2, 4, 4), (2, 16, 16), (2, 2), (0, 1)),
    ((17, 3, 2, 3), (3, 9, 7), (2, 1), (1, 2)),
    ((16, 4, 3, 3), (4, 11, 10), (3, 2), (2, 0)),
    ((4, 2, 1, 1), (2, 5, 6), (3, 3), (0, 0)),
]


def small(target: str = "energy:0.04", **given: Any) -> CompressionSettings:
    """Settings of a run of seconds."""
    options: dict[str, Any] = {"steps": 100, "observations": 400, "added": 100, "batch": 8}
    return CompressionSettings(Target.parse(target), **{**options, **given})


def layer_of(geometry: Any, kept: float = 0.5, seed: int = 0) -> Conv2d:
    """A convolution with about so many of its weights left."""
    (shape, image, stride, padding), rng = geometry, np.random.default_rng(seed)
    weight = rng.normal(size=shape) * (rng.random(shape) < kept)
    return Conv2d(weight.astype(np.float32), np.zeros(shape[0], np.float32), image, stride, padding)


def matrix(layer: Any) -> Any:
    """(outputs, inputs): 1 where a weight that is not zero connects the two, summed over kernel places."""
    ones = replace(layer, weight=(layer.weight != 0).astype(np.float32), bias=0 * layer.bias)
    return np.round(ones.product(np.eye(layer.inputs, dtype=np.float32)).T).astype(np.int64)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_columns_spikes_times_its_weights_are_the_operations_of_brute_force(geometry: Any) -> None:
    layer, rng = layer_of(geometry), np.random.default_rng(1)
    spikes, kept = rng.integers(0, 5, layer.inputs), torch.from_numpy((layer.weight != 0).astype(np.float32))
    through = ConvolutionMap(layer)
    wanted = int((matrix(layer) @ spikes).sum())
    received = through.per_column(torch.from_numpy(spikes.astype(np.float32)))
    assert float((kept.flatten(1) * received).sum()) == wanted
    assert through.fan_out(kept).numpy().tolist() == layer.fan_out.tolist() == matrix(layer).sum(0).tolist()
    assert int(layer.operations(spikes[None])[0]) == wanted


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_map_and_its_transpose_are_those_of_the_actors_layer(geometry: Any) -> None:
    layer, rng = layer_of(geometry), np.random.default_rng(2)
    x, y = rng.normal(size=(7, layer.inputs)).astype(np.float32), rng.normal(size=(7, 2, layer.outputs))
    through, weight, bias = ConvolutionMap(layer), torch.tensor(layer.weight), torch.tensor(layer.bias)
    assert through(torch.from_numpy(x), weight, bias).numpy() == pytest.approx(layer(x), abs=1e-5)
    back = through.transposed(torch.from_numpy(y.astype(np.float32)), weight).numpy()
    assert back == pytest.approx(layer.transposed(y.astype(np.float32)), abs=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES[::2])
def test_a_kernels_effect_is_summed_over_the_positions_where_it_is_used(geometry: Any) -> None:
    layer, rng = layer_of(geometry, kept=1.0), np.random.default_rng(3)
    sizes, listened = rng.random(layer.inputs), rng.random(layer.outputs)
    wanted = np.zeros(layer.weight.shape)
    for place in np.ndindex(layer.weight.shape):
        alone = np.zeros(layer.weight.shape, np.float32)
        alone[place] = 1
        used = matrix(replace(layer, weight=alone))
        wanted[place] = layer.weight[place] ** 2 * (listened @ used @ sizes)
    squares = [torch.from_numpy(values.astype(np.float32)) for values in (layer.weight**2, sizes, listened)]
    assert ConvolutionMap(layer).effects(*squares).numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def profiled(teacher: Actor, rows: int = 200) -> tuple[Student, Profile, Any]:
    student, states = Student(teacher, 0), Pictures(teacher, recording(rows))
    every = torch.arange(1, rows)
    before, now = states.inputs_at(every - 1), states.inputs_at(every)
    found = profile(student, states.error, before, now, states.offset, 0.02, COUNTS["spikes"])
    return student, found, torch.ones(teacher.head.outputs)


@pytest.mark.parametrize("kind", ["tanh", "clip", "argmax"])
def test_sensitivities_are_those_of_a_conversion(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, rows = picture_actor(kind=kind, outputs=3), recording(120)
    monkeypatch.setattr("snn_policy.compression.profile.DERIVATIVES_AT_ONCE", 3_000)
    student, states = Student(teacher, 0), Pictures(teacher, rows)
    now = states.inputs_at(torch.arange(len(rows)))
    found = profile(student, states.error, now, now, states.offset, 0.02, COUNTS["spikes"])
    for own, groups, wanted in zip(
        found.sensitivity, teacher.groups, calibrated_sensitivities(Recording(teacher, rows)), strict=True
    ):
        shared = np.sqrt((own.numpy().reshape(groups) ** 2).mean(axis=1))
        assert shared == pytest.approx(wanted.reshape(groups)[:, 0], rel=0.02, abs=1e-6)


def test_the_positions_of_a_channel_share_precision_and_predictor() -> None:
    student, found, _ = profiled(picture_actor())
    for precision, gamma, groups in zip(found.precision, found.gamma, student.groups, strict=True):
        for values in (precision.view(groups), gamma.view(groups)):
            assert torch.equal(values, values[:, :1].expand_as(values))


@pytest.mark.parametrize("block", [1, 8, 16])
def test_kernel_places_fall_in_blocks_of_output_channels(block: int) -> None:
    student, found, slope = profiled(picture_actor())
    before = operations(student, found.rate)
    prune(student, found, slope, block, 0.6 * before)
    assert operations(student, found.rate) <= 0.6 * before
    for kept, weight in zip(student.kept[:2], student.weights[:2], strict=True):
        columns = kept.flatten(1)
        alive = columns[columns.sum(1) > 0]  # silent channels go with all of their weights
        if len(alive) == len(columns):
            assert set(blocked(columns, block).unique().tolist()) <= {0.0, float(block), float(len(kept) % block)}
        assert (weight[kept == 0] == 0).all()
    assert 0.05 < float(student.kept[1].mean()) < 0.95


def test_channels_that_nothing_listens_to_go_with_their_weights() -> None:
    student, found, slope = profiled(picture_actor())
    student.kept[1][:, 3] = 0  # nothing in the second convolution listens to the first one's channel 3
    size = student.groups[2][1]
    student.kept[2][:, 5 * size : 6 * size] = 0  # nor does the linear layer to channel 5 of the second
    student.kept[2][:, 7 * size + 1 : 8 * size] = 0  # of channel 7 it hears one position
    prune(student, found, slope, 16, 1e9)
    assert [not student.kept[0][channel].any() for channel in (2, 3)] == [False, True]
    assert [not student.kept[1][channel].any() for channel in (5, 7)] == [True, False]
    assert not student.weights[0][3].any()


@pytest.fixture(scope="module")
def compressed() -> tuple[Actor, Actor, Any]:
    teacher, rows = picture_actor(), recording(500)
    return teacher, run_compression(teacher, small("energy:0.03", steps=200), None, rows), rows


def test_an_energy_is_reached_from_a_recording_and_the_teacher_stays_as_it_is(compressed: Any) -> None:
    teacher, student, rows = compressed
    assert arrays(teacher) == arrays(picture_actor())
    assert energy_share(convert(teacher, rows), teacher, rows) > 0.048
    assert energy_share(convert(student, rows), teacher, rows) < 1.1 * 0.03
    record = student.provenance["compression"]
    weights = [layer.weight for layer in student.layers]
    assert record["density"] == pytest.approx(sum(map(np.count_nonzero, weights)) / sum(w.size for w in weights))
    assert (record["env"], record["retention"], record["states"]) == (None, None, 500)
    assert [np.mean(weight != 0) < 1 for weight in weights[:2]] == [True, True]
    fresh = recording(200, seed=9)
    assert np.abs(student.act(fresh) - teacher.act(fresh)).mean() < 0.5 * teacher.act(fresh).std()


def test_all_counts_of_a_compressed_policy_are_those_of_brute_force(
    compressed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student, rows = compressed
    policy, matrices, watched = convert(student, rows), [matrix(layer) for layer in student.layers], rows[:60]
    spikes = [np.zeros(width, np.int64) for width in student.widths]

    plain = SpikingPolicy(policy.network, engine="numpy")
    with monkeypatch.context() as patched:
        patched.setattr("snn_policy.spiking.sigma_delta.tell", watching_of(sigma_delta.tell, spikes))
        for obs in watched:
            plain.act(obs)
    wanted = sum(int((one @ count).sum()) for one, count in zip(matrices, spikes, strict=True))
    for engine in ("numpy", "torch", "event"):
        run = SpikingPolicy(policy.network, engine=engine)
        for obs in watched:
            run.act(obs)
        assert int(run.counters.synaptic_operations[0]) == wanted > 10_000
    assert synaptic_operations(policy, watched) * len(watched) == pytest.approx(wanted, rel=2e-3)
    share = wanted / len(watched) * 0.9 / (4.6 * teacher.dense_macs)
    assert energy_share(policy, teacher, watched) == pytest.approx(share, rel=2e-3)
    values, _ = student.activations(np.asarray(watched, np.float32))
    student.act(watched)
    assert student.last_decision is not None
    products: Any = sum((h != 0) @ one.sum(0) for h, one in zip(values, matrices, strict=True))
    assert student.last_decision.multiply_accumulates.tolist() == products.tolist()
    assert student.synapses == sum(int(one.sum()) for one in matrices) < student.dense_macs == teacher.dense_macs


def watching_of(tell: Any, spikes: list[Any]) -> Any:
    """`tell`, adding every neuron's spikes to those of its stage."""

    def watching(h: Any, stage: int, *others: Any) -> Any:
        told = tell(h, stage, *others)
        spikes[stage] += told.emitted[0]
        return told

    return watching


def test_the_settings_bound_what_is_recorded_by_bytes() -> None:
    observed, added = numbers_of_states(63_504, 20_000, MOST_PICTURE_BYTES)
    assert (observed, added) == (2_305, 768)
    assert (observed + 8 * added) * 63_504 <= MOST_PICTURE_BYTES < (observed + 8 * added + 20) * 63_504
    assert numbers_of_states(512, 20_000, MOST_PICTURE_BYTES) == (60_000, 20_000)
    assert numbers_of_states(4 * 63_504, 20_000, MOST_PICTURE_BYTES) == (576, 192)


@pytest.mark.parametrize(("kind", "bytes_each"), [(np.uint8, 1), (np.float32, 4)])
def test_an_environments_pictures_are_counted_in_the_bytes_that_it_gives(
    kind: Any, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Given(Square):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Box(0, 255, PICTURE, kind)

    taken: list[CompressionSettings] = []
    module = "snn_policy.compression.compress"
    monkeypatch.setattr(f"{module}.MOST_PICTURE_BYTES", 2_200 * 4 * 512)
    monkeypatch.setattr(f"{module}.run_compression", lambda actor, settings, *others: taken.append(settings) or actor)
    compress(picture_actor(), Given, target="energy:0.04")
    assert (taken[0].observations, taken[0].added, taken[0].batch) == (2_400 // bytes_each, 800 // bytes_each, 32)


def test_a_recording_that_is_too_large_is_thinned_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = recording(300)
    assert thinned(rows) is rows
    monkeypatch.setattr(pictures, "MOST_PICTURE_BYTES", 150 * rows[0].nbytes)
    with pytest.warns(UserWarning, match=r"observations: 300 pictures take .* 150 of them, in 30 stretches"):
        kept = thinned(rows)
    assert kept.nbytes <= 150 * rows[0].nbytes
    pairs = [(rows == kept[index]).all((1, 2, 3)).argmax() for index in (0, 1, 148, 149)]
    assert pairs[1] - pairs[0] == pairs[3] - pairs[2] == 1


def test_pictures_stay_bytes_whatever_is_added() -> None:
    teacher, rows = picture_actor(), recording(300)
    states = states_of(teacher, rows[:200], 300)
    states.add(rows[200:])
    assert isinstance(states, Pictures)
    assert (states.observations.dtype, len(states)) == (np.uint8, 300)
    assert states.observations.tobytes() == rows.tobytes()
    whole = Pictures(teacher, rows[:200])
    whole.add(rows[200:])
    assert torch.equal(whole.actions, states.actions)
    inputs, actions = states.batch(torch.tensor([7, 250]))
    assert inputs.numpy() == pytest.approx(teacher.inputs(np.float32(rows[[6, 249, 7, 250]])), abs=1e-6)
    assert actions.numpy() == pytest.approx(teacher.act(rows[[6, 249, 7, 250]]), abs=1e-5)
    assert states.offset.numpy() == pytest.approx(teacher.inputs(np.float32(rows[:200])).mean(0), abs=1e-5)


def test_a_pair_is_moved_alike_and_the_teacher_says_what_it_does_there() -> None:
    teacher, rows = picture_actor(), recording(100)
    shifted = moved(rows[:2], PICTURE, np.array([[1, -2], [0, 0]]))
    assert shifted[0, :, 3:, 2:-4].tolist() == rows[0, :, 2:-1, 4:-2].tolist()
    assert shifted[1].tolist() == rows[1].tolist()
    states = Pictures(teacher, rows)
    noise = states.noise(np.random.default_rng(0), (500,))
    assert {*noise.ravel().tolist()} == {-2, -1, 0, 1, 2}
    inputs, actions = states.batch(torch.tensor([40]), np.array([[2, 1]]))
    wanted = moved(rows[39:41], PICTURE, np.array([[2, 1], [2, 1]]))
    assert inputs.numpy() == pytest.approx(teacher.inputs(np.float32(wanted)), abs=1e-6)
    assert actions.numpy() == pytest.approx(teacher.act(wanted), abs=1e-5)


@pytest.mark.parametrize("env", [None, Square])
def test_a_resumed_run_on_pictures_is_bit_equal(env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snn_policy.compression.compress.CHECKPOINT_EVERY", 100)
    monkeypatch.setattr("snn_policy.compression.pictures.Pictures.judged", 0.1)
    settings = small("energy:0.03" if env is None else "retention:0.5", steps=200, tolerance=0.03)
    teacher, rows = picture_actor(channels=(8, 8)), recording(300)

    def run(report: Callable[[Any], None], where: Path) -> Actor:
        given = rows if env is None else None
        return run_compression(teacher, settings, env, given, where, resume=True, report=report)

    def stop(state: Any) -> None:
        raise Stopped

    whole = run(lambda state: None, tmp_path / "whole")
    for _ in range(2):
        with pytest.raises(Stopped):
            run(stop, tmp_path / "parts")
    parts = run(lambda state: None, tmp_path / "parts")
    assert arrays(parts) == arrays(whole)
    assert parts.provenance == whole.provenance
    again = run_compression(teacher, settings, env, rows if env is None else None)
    assert arrays(again) == arrays(whole)


@pytest.mark.parametrize("size", [48, 52, 56])
def test_the_quanta_of_thousands_of_pixels_are_found_at_once(size: int) -> None:
    rng, shape = np.random.default_rng(0), (2, size, size)
    first = Conv2d(
        rng.normal(size=(4, 2, 4, 4)).astype(np.float32), np.zeros(4, np.float32), shape, (4, 4), (0, 0), RELU
    )
    last = Linear(rng.normal(size=(1, first.outputs)).astype(np.float32), np.zeros(1, np.float32))
    teacher = Actor((first, last), Head.clip([-1e3], [1e3]), shape, picture_actor().normaliser)
    rows = rng.integers(0, 256, (120, *shape), dtype=np.uint8)
    run = Distillation(teacher, Pictures(teacher, rows), small(tolerance=0.001), None)
    run._begin_first_stretch()
    now, found = run.progress, run.progress.scale
    assert found < States.least_scale
    run._learn_from(Conversion(convert(teacher, rows, tolerance=0.001), 0.001, now.above))
    assert now.scale == pytest.approx(found, rel=1e-3)
    assert 0.4 < now.correction < 2.5


def test_a_run_of_an_actor_without_convolutions_on_bytes_resumes_too(tmp_path: Path) -> None:
    teacher = replace(random_actor(shape=PICTURE, widths=(16, 16), outputs=2), head=picture_actor().head)

    def run() -> Actor:
        return run_compression(teacher, small("retention:0.1", added=0), Brief, directory=tmp_path, resume=True)

    assert arrays(run()) == arrays(run())


class Brief(Square):
    """Episodes of six decisions."""

    def __init__(self) -> None:
        super().__init__(length=6)


def test_a_student_of_a_pixel_environment_is_judged_there() -> None:
    teacher = picture_actor()
    settings = small("retention:0.8", steps=200, observations=300)
    student = run_compression(teacher, settings, Square)
    record = student.provenance["compression"]
    assert (record["env"], record["reached"], record["episodes"]) == ("Square", True, 40)
    assert record["states"] >= 300 + 100
    dense = energy_share(convert(teacher, recording(300)), teacher, recording(300))
    assert record["energy"] < 0.8 * dense


@pytest.mark.parametrize("given", ["argmax", "two argmaxes", "clip", "no normaliser", "float32"])
def test_every_head_and_every_kind_of_pictures_is_taken(given: str) -> None:
    kind = "argmax" if "argmax" in given else "clip" if given == "clip" else "tanh"
    teacher = picture_actor(kind=kind, outputs=4, normalised=given != "no normaliser")
    rows = recording(400)
    if given == "two argmaxes":
        teacher = replace(teacher, head=type(teacher.head).argmax([2, 2]))
    if given == "no normaliser":
        rows = rows.astype(np.float32) / 128 - 1
    if given == "float32":
        rows = rows.astype(np.float32) + 0.25
    student = run_compression(teacher, small("energy:0.03", steps=200), None, rows)
    assert (student.head, student.normaliser) == (teacher.head, teacher.normaliser)
    assert student.provenance["compression"]["density"] < 1
    fresh = recording(200, seed=9)
    fresh = fresh.astype(np.float32) / 128 - 1 if given == "no normaliser" else fresh
    if teacher.discrete:
        assert np.mean(student.act(fresh) == teacher.act(fresh)) > 0.8
    else:
        own, taught = student.act(fresh), teacher.act(fresh)
        assert np.square(own - taught).mean() < 0.5 * taught.var()


@pytest.mark.parametrize("activation", ["tanh", "elu", "silu"])
def test_any_activation_becomes_relu_in_convolutions_too(activation: str) -> None:
    teacher = picture_actor(activation=Activation(activation, 1.0))  # pyright: ignore[reportArgumentType]
    errors: list[float] = []
    student = run_compression(
        teacher, small("energy:0.9", steps=200, batch=16), None, recording(400),
        report=lambda state: errors.append(state["error"]),
    )  # fmt: skip
    assert all(layer.activation is not None and layer.activation.name == "relu" for layer in student.hidden)
    assert [type(layer) for layer in student.layers] == [type(layer) for layer in teacher.layers]
    states = Pictures(teacher, recording(400))
    with torch.no_grad():
        fresh = states.error.action(Student(teacher, 0)(states.inputs_at(torch.arange(400)))[1]) - states.actions
    assert errors[-1] < 0.5 * float(fresh.square().mean().sqrt())


def test_a_bundle_holds_a_compressed_policy_compactly_and_its_exports_agree(compressed: Any, tmp_path: Path) -> None:
    _, student, rows = compressed
    policy = convert(student, rows)
    policy.save(tmp_path / "small")
    convert(picture_actor(), rows).save(tmp_path / "whole")
    sizes = [next((tmp_path / name).glob("weights*")).stat().st_size for name in ("small", "whole")]
    assert sizes[0] < 0.8 * sizes[1]
    read = load_actor(tmp_path / "small")
    assert arrays(read) == arrays(student)
    assert read.provenance["compression"]["target"] == "energy:0.03"
    policy.export_onnx(tmp_path / "onnx")
    exported, compiled = OnnxPolicy(tmp_path / "onnx"), CompiledPolicy(policy, tmp_path / "c", "-O1")
    policy.reset()
    for obs in rows[:20]:
        wanted = policy.act(obs)
        assert exported.act(obs) == pytest.approx(wanted, abs=1e-4)
        assert compiled.act(obs)[:2] == pytest.approx(wanted, abs=1e-4)


def test_what_is_not_taken_is_refused_by_name() -> None:
    rows = recording(400)
    graph = two_eyes()
    with pytest.raises(UnsupportedLayerError, match="compression takes chains of layers only"):
        compress(graph, observations=rows, target="energy:0.04")
    only = picture_actor().layers[0]
    flat = replace(
        picture_actor(), graph=(replace(only, activation=None),), head=Head.clip(*[np.ones(only.outputs)] * 2)
    )
    with pytest.raises(UnsupportedLayerError, match="no hidden layer"):
        compress(flat, observations=rows, target="energy:0.04")
    with pytest.raises(ValueError, match="give env, or observations"):
        compress(picture_actor(), target="energy:0.04")
    with pytest.raises(ValueError, match="a return needs an environment"):
        compress(picture_actor(), observations=rows)
    with pytest.raises(ValueError, match=r"observations: expected shape .*2, 16, 16"):
        compress(picture_actor(), observations=rows[:, :, :8], target="energy:0.04")
    with pytest.raises(ValueError, match="at least 256 are needed"):
        compress(picture_actor(), observations=rows[:100], target="energy:0.04")
    with pytest.raises(ValueError, match=r"(?i)nan"):
        compress(picture_actor(), observations=np.where(rows > 200, np.nan, rows), target="energy:0.04")


def two_eyes() -> Actor:
    """Two convolutions read the picture, one linear layer reads both: no chain."""
    from snn_policy.ann.cells import Elementwise
    from snn_policy.ann.graph import Graph
    from snn_policy.ann.stage import Connection, Stage

    whole = picture_actor()
    first, out = replace(whole.layers[0], activation=None), whole.layers[0].outputs
    relu = whole.layers[0].activation
    eyes = [Stage((Connection(0, first),), Elementwise(out, relu)) for _ in range(2)]
    reads = tuple(
        Connection(source, Linear(np.ones((2, out), np.float32), np.zeros(2, np.float32))) for source in (1, 2)
    )
    return replace(whole, graph=Graph(whole.graph.inputs, (*eyes, Stage(reads, Elementwise(2, None)))))


FORGED: dict[str, Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]] = {
    "weights of bytes": lambda tensors, progress: tensors.update(values=tensors["values"].byte()),
    "smaller pictures": lambda tensors, progress: tensors.update(observations=torch.zeros(300, 2, 8, 16).byte()),
    "pictures of long integers": lambda tensors, progress: tensors.update(observations=tensors["observations"].long()),
    "too few pictures": lambda tensors, progress: tensors.update(observations=tensors["observations"][:1].clone()),
    "a mask of another kernel": lambda tensors, progress: tensors.update({"mask.0": torch.ones(16, 2, 3, 3)}),
    "half a mask": lambda tensors, progress: tensors["mask.1"].fill_(0.5),
    "a unit that is none": lambda tensors, progress: progress.update(spike_unit="much"),
    "a unit below nothing": lambda tensors, progress: progress.update(spike_unit=-1.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pictures")
    run_compression(picture_actor(), small(), None, recording(300), directory)
    return directory


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_checkpoint_of_pictures_gives_one_clear_line(forged: str, finished: Path, tmp_path: Path) -> None:
    for name in (RUN_FILE, CHECKPOINT_FILE):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    rewritten(tmp_path / CHECKPOINT_FILE, FORGED[forged])
    with pytest.raises(SourceError, match=r"checkpoint\.safetensors: ") as error:
        run_compression(picture_actor(), small(), None, recording(300), tmp_path, resume=True)
    assert "\n" not in str(error.value)


def test_the_command_compresses_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = recording(300), tmp_path / "small"
    np.save(tmp_path / "log.npy", rows)
    convert(picture_actor(), rows).save(tmp_path / "model")
    command = ["compress", str(tmp_path / "model"), "--observations", str(tmp_path / "log.npy"), "--out", str(out)]
    assert main([*command, "--steps", "100", "--target", "energy:0.04", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)["compression"]
    assert (record["target"], record["steps"]) == ("energy:0.04", 100)
    assert json.loads((out / "policy.json").read_text())["card"]["compression"] == record
