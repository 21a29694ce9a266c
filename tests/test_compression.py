"""compress: a sparse and quiet student of an actor; the teacher stays as it is, runs resume to the bit."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import Actor, SourceError, UnsupportedLayerError, compare, compress, convert, load_actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.layers import Linear
from snn_policy.cli import main
from snn_policy.compression.checkpoints import CHECKPOINT_FILE, RUN_FILE
from snn_policy.compression.compress import run_compression
from snn_policy.compression.distillation import Distillation
from snn_policy.compression.judging import Judge, Verdict, energy_share, synaptic_operations
from snn_policy.compression.loss import COUNTS, ActionError
from snn_policy.compression.plan import Stretch
from snn_policy.compression.profile import profile
from snn_policy.compression.pruning import blocked, operations, prune
from snn_policy.compression.settings import CompressionSettings, Target, numbers_of_states
from snn_policy.compression.states import States
from snn_policy.compression.student import Student
from snn_policy.energy import nanojoules
from snn_policy.exported import path as shipped
from snn_policy.untrusted_files import CONTENT_KEY, sealed
from tests.actors import dyadic_image_actor, random_actor

PENDULUM = "Pendulum-v1"
pytestmark = pytest.mark.filterwarnings("ignore:.* was not reached")


def walk(rows: int, size: int, seed: int = 0) -> Any:
    """(rows, size) float32: a stationary walk, of which consecutive rows are correlated by 0.95."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, size))
    for row in range(1, rows):
        values[row] = 0.95 * values[row - 1] + np.sqrt(1 - 0.95**2) * values[row]
    return values.astype(np.float32)


def small(target: str = "energy:0.1", **given: Any) -> CompressionSettings:
    """Settings of a run of seconds."""
    options: dict[str, Any] = {"steps": 300, "observations": 600, "added": 200, "batch": 16}
    return CompressionSettings(Target.parse(target), **{**options, **given})


@pytest.fixture(scope="module")
def pendulum() -> Actor:
    return load_actor(shipped("td3-Pendulum-v1"))


def arrays(actor: Actor) -> list[bytes]:
    return [case.tobytes() for layer in actor.layers for case in (layer.weight, layer.bias)]


def weights(actor: Actor) -> list[Any]:
    return [layer.weight for layer in actor.layers]


def test_the_teacher_stays_as_it_is_to_the_bit() -> None:
    for kind, activation in (("tanh", "relu"), ("clip", "tanh"), ("argmax", "relu")):
        teacher = random_actor(kind=kind, activation=Activation(activation), normalised=True)  # pyright: ignore
        before, head = arrays(teacher), teacher.head
        student = run_compression(teacher, small(steps=100), None, walk(400, 11))
        assert arrays(teacher) == before
        assert not teacher.provenance
        assert (student.head, student.normaliser) == (head, teacher.normaliser)
        assert arrays(student) != before
        assert "compressed" in student.name


def test_a_seed_gives_one_student_and_another_seed_another() -> None:
    teacher, recording = random_actor(), walk(600, 11)
    one, same, other = (run_compression(teacher, small(seed=seed), None, recording) for seed in (3, 3, 4))
    assert arrays(one) == arrays(same)
    assert arrays(one) != arrays(other)


@pytest.mark.parametrize("wanted", [0.08, 0.04])
def test_a_wanted_energy_is_reached_within_a_tenth_and_counts_only_weights_that_are_left(wanted: float) -> None:
    teacher, recording = random_actor(widths=(64, 64)), walk(3_000, 11)
    dense = energy_share(convert(teacher, recording), teacher, recording)
    student = run_compression(teacher, small(f"energy:{wanted}", steps=600), None, recording)
    policy = convert(student, recording)
    spent = energy_share(policy, teacher, recording)
    assert spent < 1.1 * wanted < dense
    policy.reset()
    for obs in recording[:300]:
        policy.act(obs)
    assert synaptic_operations(policy, recording[:300]) == pytest.approx(
        policy.counters.synaptic_operations[0] / 300, rel=1e-3
    )
    record = student.provenance["compression"]
    assert record["density"] == pytest.approx(
        sum(np.count_nonzero(w) for w in weights(student)) / sum(w.size for w in weights(student)), abs=1e-6
    )


@pytest.mark.parametrize("activation", ["tanh", "silu", "elu", "leaky_relu"])
def test_any_activation_becomes_relu_and_the_error_falls_by_half(activation: str) -> None:
    teacher = random_actor(activation=Activation(activation, 0.1), kind="clip")  # pyright: ignore[reportArgumentType]
    errors: list[float] = []
    student = run_compression(
        teacher, small("energy:0.9", steps=500, batch=32), None, walk(2_000, 11),
        report=lambda state: errors.append(state["error"]),
    )  # fmt: skip
    assert all(layer.activation is not None and layer.activation.name == "relu" for layer in student.hidden)
    states = States(teacher, walk(2_000, 11))
    with torch.no_grad():
        fresh = states.error.action(Student(teacher, 0)(states.inputs)[1]) - states.actions
    assert errors[-1] < 0.5 * float(fresh.square().mean().sqrt())


def profiled(teacher: Actor, rows: int = 2_000, block: int = 16) -> tuple[Student, Any, Any]:
    student, states = Student(teacher, 0), States(teacher, walk(rows, 11))
    found = profile(student, states.error, states.inputs[:-1], states.inputs[1:], states.offset, 0.02, COUNTS["spikes"])
    return student, found, torch.ones(teacher.head.outputs)


@pytest.mark.parametrize("block", [1, 8, 16, 32])
def test_blocks_fall_whole_until_the_operations_are_as_few_as_allowed(block: int) -> None:
    teacher = random_actor(widths=(64, 64))
    student, found, slope = profiled(teacher)
    before = operations(student, found.rate)
    prune(student, found, slope, block, 0.7 * before)
    assert 0.5 * before < operations(student, found.rate) <= 0.7 * before
    for kept, weight in zip(student.kept, student.weights, strict=True):
        alive = kept[:, kept.sum(0) > 0][kept.sum(1) > 0]  # unheard neurons go with their weights
        width = min(block, len(kept))
        if len(alive) == len(kept):
            assert set(blocked(alive, width).unique().tolist()) <= {0.0, float(width), float(len(kept) % width)}
        assert (weight[kept == 0] == 0).all()
    assert 0.3 < student.density < 0.8


def test_neurons_that_nothing_listens_to_go_with_their_weights() -> None:
    student, found, slope = profiled(random_actor(widths=(64, 64)))
    prune(student, found, slope, 16, 0.1 * operations(student, found.rate))
    for incoming, outgoing in zip(student.kept[:-1], student.kept[1:], strict=True):
        silent = outgoing.sum(0) == 0
        assert silent.any()
        assert (incoming[silent] == 0).all()


def test_pruning_never_brings_a_weight_back() -> None:
    student, found, slope = profiled(random_actor(widths=(64, 64)))
    total = operations(student, found.rate)
    prune(student, found, slope, 16, 0.5 * total)
    gone = [kept == 0 for kept in student.kept]
    prune(student, found, slope, 16, 0.25 * total)
    assert all((kept[mask] == 0).all() for kept, mask in zip(student.kept, gone, strict=True))


def test_expected_spikes_do_not_change_when_a_neuron_is_rescaled() -> None:
    teacher = random_actor()
    first, second = teacher.layers[0], teacher.layers[1]
    factor = np.float32(4)
    scaled = replace(
        teacher,
        graph=(
            Linear(first.weight * factor, first.bias * factor, first.activation),
            Linear(second.weight / factor, second.bias, second.activation),
            teacher.layers[2],
        ),
    )
    (one, found, _), (other, rescaled, _) = profiled(teacher), profiled(scaled)
    assert operations(one, found.rate) == pytest.approx(operations(other, rescaled.rate), rel=1e-5)


@pytest.mark.parametrize("size", [0.0, 0.75, 1.0, 3.0, 100.0])
def test_a_change_costs_its_digits_as_spikes_and_at_most_one_event(size: float) -> None:
    changed = torch.tensor(size)
    assert float(COUNTS["spikes"](changed)) == pytest.approx(np.log2(1 + size), abs=1e-6)
    assert 0 <= float(COUNTS["events"](changed)) <= 1
    assert (float(COUNTS["events"](changed)) == 0) == (size == 0)


@pytest.mark.parametrize("kind", ["tanh", "clip"])
def test_an_output_beyond_its_bound_still_learns_and_costs_nothing_where_the_teacher_is_there_too(kind: Any) -> None:
    teacher = random_actor(kind=kind, outputs=1)
    error = ActionError(teacher, np.zeros((8, 1), np.float32))
    y = torch.tensor([[9.0]], requires_grad=True)
    inside, beyond = error.action(torch.tensor([[0.1]])), error.action(torch.tensor([[7.0]]))
    assert float((error.action(y) - beyond).detach().abs()) < 1e-4
    (error.action(y) - inside).square().sum().backward()
    assert y.grad is not None
    assert kind == "tanh" or float(y.grad) > 0


def test_discrete_actors_keep_their_choices() -> None:
    teacher, recording = random_actor(kind="argmax", outputs=4, widths=(48, 48)), walk(2_000, 11)
    student = run_compression(teacher, small("energy:0.2", steps=600, batch=32), None, recording)
    fresh = walk(500, 11, seed=9)
    assert student.discrete
    assert np.mean(student.act(fresh) == teacher.act(fresh)) > 0.85


def test_events_are_what_is_counted_when_asked_for() -> None:
    teacher, recording = random_actor(widths=(64, 64)), walk(2_000, 11)

    def events(count: str) -> float:
        student = run_compression(teacher, small("energy:0.08", steps=300, count=count), None, recording)
        assert student.provenance["compression"]["count"] == count
        policy = convert(student, recording)
        policy.reset()
        for obs in recording[:200]:
            policy.act(obs)
        return float(policy.counters.spikes.sum())

    assert events("events") != events("spikes")


def test_a_stretch_goes_from_its_first_energy_to_its_goal_and_cools_down() -> None:
    first, second = Stretch(0, 1_000, 0.1, 0.02), Stretch(1_000, 2_000, 0.1, 0.02)
    energies = [second.energy(step) for step in range(1_000, 2_001, 50)]
    assert energies[0] == pytest.approx(0.1)
    assert energies == sorted(energies, reverse=True)
    assert energies[12] == pytest.approx(0.02)
    assert (first.rate(500), first.rate(750), first.rate(1_000)) == pytest.approx((1.0, 0.5, 0.02))
    assert (second.rate(1_500), second.rate(1_750)) == pytest.approx((0.3, 0.15))
    assert (second.pruning(1_000), second.pruning(1_700)) == (True, False)
    assert not Stretch(0, 1_000, 0.02, 0.02).pruning(0)


@pytest.mark.parametrize(
    ("retention", "failed", "passes"), [(0.995, 0.0, True), (0.985, 0.0, False), (1.2, 0.1, False), (None, 0.0, False)]
)
def test_a_student_passes_by_its_return_and_its_failures(retention: float | None, failed: float, passes: bool) -> None:
    assert Verdict(0.03, retention, 0.01, failed, 0.05, 60).passes(0.99) is passes


class Stopped(Exception):
    """Stands for a kill."""


def interrupted(run: Callable[[Callable[[Any], None]], Any], calls: int) -> None:
    """Run until the checkpoint's `calls`-th report, and stop there."""
    left = calls

    def stop(state: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Stopped

    with pytest.raises(Stopped):
        run(stop)


@pytest.mark.parametrize("env", [None, PENDULUM])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(
    env: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snn_policy.compression.compress.CHECKPOINT_EVERY", 100)
    monkeypatch.setattr("snn_policy.compression.judging.MOST_EPISODES", 10)
    settings, recording = small("energy:0.02" if env is None else "retention:0.5", steps=400, added=100), walk(600, 3)
    teacher = random_actor(shape=(3,), widths=(32, 24), outputs=1)

    def run(report: Callable[[Any], None], where: Path) -> Actor:
        given = recording if env is None else None
        return run_compression(teacher, settings, env, given, where, resume=True, report=report)

    whole = run(lambda state: None, tmp_path / "whole")
    for calls in (2, 1):
        interrupted(lambda report: run(report, tmp_path / "parts"), calls)
    assert arrays(run(lambda state: None, tmp_path / "parts")) == arrays(whole)
    assert arrays(run(lambda state: None, tmp_path / "whole")) == arrays(whole)  # a finished one is only read


def test_pendulum_keeps_its_return_with_a_fraction_of_its_energy(pendulum: Actor) -> None:
    settings = small("retention:0.97", steps=800, observations=2_000, added=500, batch=32)
    student = run_compression(pendulum, settings, PENDULUM)
    record = student.provenance["compression"]
    recording = pendulum.collect(PENDULUM, 1_000, seed=7)
    dense = energy_share(convert(pendulum, recording), pendulum, recording)
    assert record["reached"]
    assert record["retention"] >= 0.97
    assert record["episodes"] >= 50
    assert record["energy"] < 0.6 * dense


@pytest.mark.parametrize(
    "text",
    ["", "energy", "energy:", "energy:0", "energy:1", "energy:-0.1", "energy:nan", "retention:1.5", "retention:0",
     "return:0.9", "0.99", "energy:0.03,0.02", None, 0.99],
)  # fmt: skip
def test_a_target_that_makes_no_sense_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^target .*expected 'energy:E' with E in \(0, 1\).*'retention:R'"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("given", "named"),
    [({"steps": 0}, "steps 0"), ({"block": 0}, "block 0"), ({"count": "volts"}, "count 'volts'"),
     ({"tolerance": 0.0}, "tolerance 0"), ({"seed": -1}, "seed -1"), ({"steps": 1.5}, "steps 1.5")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        small(**given)


def test_what_cannot_be_compressed_is_refused_by_name_before_anything_takes_time() -> None:
    recording = walk(400, 11)
    with pytest.raises(ValueError, match=r"expected shape .*3, 9, 8"):
        compress(dyadic_image_actor(), observations=recording, target="energy:0.1")
    teacher = random_actor()
    linear = replace(random_actor(widths=()), name="flat")
    with pytest.raises(UnsupportedLayerError, match=r"flat.*no hidden layer"):
        compress(linear, observations=recording, target="energy:0.1")
    with pytest.raises(ValueError, match="its environment is not known; give env, or observations"):
        compress(teacher)
    with pytest.raises(ValueError, match="a return needs an environment; give env, or target='energy:E'"):
        compress(teacher, observations=recording)
    with pytest.raises(ValueError, match="observation"):
        compress(teacher, PENDULUM)
    with pytest.raises(ValueError, match="at least 256 are needed"):
        compress(teacher, observations=recording[:20], target="energy:0.1")
    with pytest.raises(ValueError, match="target 'small'"):
        compress(teacher, observations=recording, target="small")


def test_a_target_out_of_reach_is_told() -> None:
    with pytest.warns(UserWarning, match=r"energy:0\.0001 was not reached"):
        run_compression(random_actor(), small("energy:0.0001", steps=100), None, walk(600, 11))


def test_a_directory_with_another_run_is_not_taken(tmp_path: Path) -> None:
    teacher, recording = random_actor(), walk(400, 11)
    run_compression(teacher, small(steps=100), None, recording, tmp_path)
    with pytest.raises(ValueError, match="holds a compression already"):
        run_compression(teacher, small(steps=100), None, recording, tmp_path)
    for settings, other, rows, named in (
        (small(steps=200), teacher, recording, "its settings steps is 100, not 200"),
        (small(steps=100), random_actor(seed=1), recording, "its teacher sha256"),
        (small(steps=100), teacher, recording[1:], "its states sha256"),
    ):
        with pytest.raises(ValueError, match=named):
            run_compression(other, settings, None, rows, tmp_path, resume=True)


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]) -> None:
    """Change the tensors and the progress of a checkpoint."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    progress = json.loads(metadata["progress"])
    change(tensors, progress)
    rest = {**metadata, "progress": json.dumps(progress)}
    rest.pop(CONTENT_KEY)
    save_file(tensors, path, sealed(rest, {name: tensor.numpy() for name, tensor in tensors.items()}))


FORGED: dict[str, Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]] = {
    "NaN": lambda tensors, progress: tensors["values"].fill_(torch.nan),
    "half a mask": lambda tensors, progress: tensors["mask.1"].fill_(0.5),
    "another shape": lambda tensors, progress: tensors.update(values=torch.zeros(3)),
    "integers": lambda tensors, progress: tensors.update(mean=tensors["mean"].int()),
    "no moments": lambda tensors, progress: tensors.pop("square"),
    "other observations": lambda tensors, progress: tensors.update(observations=torch.zeros(400, 5)),
    "too few observations": lambda tensors, progress: tensors.update(observations=torch.zeros(1, 11)),
    "a step beyond the end": lambda tensors, progress: progress.update(step=10**6),
    "a negative step": lambda tensors, progress: progress.update(step=-1),
    "a text": lambda tensors, progress: progress.update(weight="much"),
    "an unknown field": lambda tensors, progress: progress.update(command="rm"),
    "no numbers": lambda tensors, progress: progress.update(weight=float("nan")),
    "a verdict of texts": lambda tensors, progress: progress["kept"]["verdict"].update(energy="low"),
    "verdicts that are none": lambda tensors, progress: progress.update(verdicts=[{"retention": "all"}]),
    "a closed loop that needs nothing": lambda tensors, progress: progress.update(closed_loop=0.0),
    "a correction of a million": lambda tensors, progress: progress.update(correction=1e6),
    "spikes of no weight": lambda tensors, progress: progress.update(weight=0.0),
    "spikes of any weight": lambda tensors, progress: progress.update(weight=1e8),
    "spikes a billion times as heavy": lambda tensors, progress: progress.update(spike_unit=9e8),
    "no scale": lambda tensors, progress: progress.update(scale=0.0),
    "a stretch without steps": lambda tensors, progress: progress.update(finished=False, begin=100),
    "finished without a student": lambda tensors, progress: progress.pop("kept"),
    "a verdict of no tolerance": lambda tensors, progress: progress["kept"]["verdict"].update(tolerance=0.0),
    "a verdict of negative error": lambda tensors, progress: progress["kept"]["verdict"].update(error=-0.1),
    "episodes that tell nothing": lambda tensors, progress: progress["kept"]["verdict"].update(episodes=9, failed=None),
    "a verdict of negative energy": lambda tensors, progress: progress["kept"]["verdict"].update(energy=-0.1),
    "a forged verdict": lambda tensors, progress: progress.update(kept={"verdict": {"what": 1}, "step": 0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    run_compression(random_actor(), small(steps=100), None, walk(400, 11), directory)
    return directory


def resume(directory: Path) -> Actor:
    return run_compression(random_actor(), small(steps=100), None, walk(400, 11), directory, resume=True)


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_checkpoint_gives_one_clear_line(forged: str, finished: Path, tmp_path: Path) -> None:
    for name in (RUN_FILE, CHECKPOINT_FILE):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    rewritten(tmp_path / CHECKPOINT_FILE, FORGED[forged])
    with pytest.raises(SourceError, match=r"checkpoint\.safetensors: ") as error:
        resume(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "description", "of another run", "pickle"])
def test_a_damaged_run_gives_one_clear_line(damage: str, finished: Path, tmp_path: Path) -> None:
    for name in (RUN_FILE, CHECKPOINT_FILE):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    checkpoint, description = tmp_path / CHECKPOINT_FILE, tmp_path / RUN_FILE
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    elif damage == "pickle":
        torch.save({"values": torch.zeros(3)}, checkpoint)
    elif damage == "description":
        description.write_text('{"format": "else"}')
    else:
        run_compression(random_actor(), small(steps=100, seed=9), None, walk(400, 11), tmp_path / "other")
        checkpoint.write_bytes((tmp_path / "other" / CHECKPOINT_FILE).read_bytes())
    with pytest.raises(SourceError, match="compression.json" if damage == "description" else "checkpoint.safetensors"):
        resume(tmp_path)


def test_a_bundle_keeps_what_was_done_and_older_ones_have_nothing(finished: Path, tmp_path: Path) -> None:
    student = resume(finished)
    convert(student, walk(400, 11)).save(tmp_path)
    read = load_actor(tmp_path)
    assert read.provenance == json.loads(json.dumps(dict(student.provenance)))
    assert read.provenance["compression"]["target"] == "energy:0.1"
    assert arrays(read) == arrays(student)
    assert load_actor(shipped("td3-Pendulum-v1")).provenance == {}


def test_the_command_compresses_a_recording_and_its_card_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, out = tmp_path / "log.npy", tmp_path / "small"
    np.save(recording, walk(400, 3))
    command = ["compress", "td3-Pendulum-v1", "--observations", str(recording), "--out", str(out), "--steps", "100"]
    assert main([*command, "--target", "energy:0.5", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)["compression"]
    assert (record["target"], record["steps"], record["retention"]) == ("energy:0.5", 100, None)
    document = json.loads((out / "policy.json").read_text())
    assert document["card"]["compression"] == record
    assert main([*command, "--target", "energy:0.5"]) == 2
    assert "holds a policy already" in capsys.readouterr().err
    assert main([*command, "--target", "energy:0.5", "--resume"]) == 0
    assert "of td3-Pendulum-v1's weights, energy" in capsys.readouterr().out


def test_an_interrupted_command_keeps_its_checkpoint_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, out = tmp_path / "log.npy", tmp_path / "small"
    np.save(recording, walk(400, 3))
    command = ["compress", "td3-Pendulum-v1", "--observations", str(recording), "--out", str(out), "--steps", "300"]
    command += ["--target", "energy:0.5"]
    monkeypatch.setattr("snn_policy.compression.compress.CHECKPOINT_EVERY", 100)
    with monkeypatch.context() as patched:
        run_block, blocks = Distillation.run_block, 0

        def stop_in_the_second(run: Distillation) -> None:
            nonlocal blocks
            blocks += 1
            if blocks == 2:
                raise KeyboardInterrupt
            run_block(run)

        patched.setattr(Distillation, "run_block", stop_in_the_second)
        assert main(command) == 130
    assert (out / "compression" / CHECKPOINT_FILE).is_file()
    assert not (out / "policy.json").exists()
    assert main([*command, "--resume", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["compression"]["steps"] == 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--target", "tiny"], "expected 'energy:E'"), (["--block", "0"], "block"), (["--count", "u"], "count 'u'"),
     (["--env", "No-v0"], "No-v0"), (["--observations", "absent.npy"], "absent.npy")],
)  # fmt: skip
def test_a_mistake_at_the_command_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "td3-Pendulum-v1", "--out", str(tmp_path / "out"), *arguments]) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) == 1


def test_without_torch_the_remedy_is_named() -> None:
    from tests.test_without_torch import run

    program = """
from snn_policy import compress, load_actor
from snn_policy.exported import path
try:
    compress(load_actor(path("td3-Pendulum-v1")))
except ImportError as error:
    print(error)
"""
    assert "compress trains, and needs torch: pip install 'snn-policy[convert]'" in run(program)


def test_energy_is_a_share_of_the_dense_teachers() -> None:
    teacher, recording = random_actor(), walk(400, 11)
    policy = convert(teacher, recording)
    share = synaptic_operations(policy, recording) * float(nanojoules(0, 1)) / float(nanojoules(teacher.dense_macs, 0))
    assert energy_share(policy, teacher, recording) == pytest.approx(share)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("left", [1.0, 0.3])
def test_open_loop_operations_are_those_that_the_policy_counts(alpha: float, left: float) -> None:
    rng, given, recording = np.random.default_rng(5), random_actor(widths=(64, 64)), walk(600, 11)
    layers = tuple(
        replace(layer, weight=layer.weight * (rng.random(layer.weight.shape) < left).astype(np.float32))
        for layer in given.layers
    )
    policy = convert(replace(given, graph=layers), recording, tolerance=0.05, alpha=alpha)
    policy.reset()
    for obs in recording:
        policy.act(obs)
    counted = policy.counters.synaptic_operations[0] / len(recording)
    assert synaptic_operations(policy, recording) == pytest.approx(counted, rel=2e-3)


@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_a_verdicts_energy_is_what_its_episodes_spent(wanted: float, pendulum: Actor) -> None:
    policy = convert(pendulum, pendulum.collect(PENDULUM, 1_000, seed=7))
    judge = Judge(pendulum, PENDULUM, 77)
    verdict = judge.verdict(policy, wanted)
    found = compare(pendulum, policy, PENDULUM, episodes=verdict.episodes, seed=77)
    assert verdict.energy == pytest.approx(found.energy_share, rel=1e-6)
    assert verdict.retention == pytest.approx(found.retention_of_means, rel=1e-6)


def judged(monkeypatch: pytest.MonkeyPatch, student: list[float], wanted: float) -> Verdict:
    """The verdict on a student with these returns, one after another, beside a teacher that always returns 100."""

    def evaluated(policy: Any, env: Any, episodes: int, seed: int) -> SimpleNamespace:
        own = student[seed : seed + episodes] if policy == "student" else [100.0] * episodes
        return SimpleNamespace(returns=own, lengths=[1] * episodes, synaptic_operations=1.0)

    monkeypatch.setattr("snn_policy.compression.judging.evaluate", evaluated)
    teacher: Any = SimpleNamespace(dense_macs=100)
    policy: Any = "student"
    return Judge(teacher, "any", 0).verdict(policy, wanted)


@pytest.mark.parametrize("fall", [20, 49, 79])
def test_a_fall_after_twenty_good_episodes_is_seen(fall: int, monkeypatch: pytest.MonkeyPatch) -> None:
    returns = [99.8, 100.2] * 50
    returns[fall] = 10.0
    verdict = judged(monkeypatch, returns, 0.99)
    assert verdict.failed > 0
    assert verdict.episodes >= 80


@pytest.mark.parametrize(("returns", "episodes"), [
    ([99.8, 100.2] * 50, 80), ([80.0, 80.5] * 50, 20), ([98.0, 100.0] * 50, 100),
], ids=["clearly enough", "clearly too little", "just what is wanted"])  # fmt: skip
def test_episodes_are_run_until_the_verdict_is_clear(
    returns: list[float], episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judged(monkeypatch, returns, 0.99).episodes == episodes


@pytest.mark.parametrize(("size", "steps", "states"), [
    (17, 20_000, (60_000, 20_000)), (17, 30_000, (60_000, 20_000)), (11, 5_000, (15_000, 5_000)), (3, 1, (3, 1)),
    (348, 20_000, (13_148, 4_382)),
])  # fmt: skip
def test_short_runs_and_large_observations_get_fewer_states(size: int, steps: int, states: tuple[int, int]) -> None:
    assert numbers_of_states(size, steps) == states


@pytest.mark.parametrize(("share", "gamma"), [(0.2, 1), (0.4, 1), (0.8, 0), (0.9, 0), (1.5, 0)])
def test_changes_are_expected_only_where_they_save_a_tenth_as_a_conversion_chooses(share: float, gamma: int) -> None:
    teacher = random_actor()
    student, states = Student(teacher, 0), States(teacher, walk(2_000, 11))
    now = states.inputs - states.offset
    before, sizes = (1 - share) * now, now.abs() / 0.02
    found = profile(student, states.error, before + states.offset, states.inputs, states.offset, 0.02, COUNTS["spikes"])
    afresh, changes = (torch.log2(1 + case * 0.02 * found.precision[0]).mean(0) for case in (sizes, share * sizes))
    assert ((changes < 0.9 * afresh) == bool(gamma)).all()
    assert (found.gamma[0] == gamma).all()
    assert found.rate[0].numpy() == pytest.approx((changes if gamma else afresh).numpy(), rel=1e-4)


@pytest.mark.parametrize(("energy", "reached"), [(0.0199, True), (0.0201, True), (0.0203, False), (0.03, False)])
def test_an_energy_is_reached_within_a_hundredth(energy: float, reached: bool) -> None:
    assert Verdict(energy).needs_at_most(0.02) is reached


@pytest.mark.parametrize("given", [0.02, 0.1])
def test_a_given_tolerance_is_the_one_that_the_student_is_made_for(given: float) -> None:
    student = run_compression(random_actor(), small(steps=100, tolerance=given), None, walk(400, 11))
    assert student.provenance["compression"]["tolerance"] == given
    assert convert(student, walk(400, 11)).conversion["tolerance"] == given


def test_a_student_that_errs_says_less_and_its_default_conversion_needs_what_was_found() -> None:
    teacher, recording = random_actor(widths=(64, 64)), walk(3_000, 11)
    student = run_compression(teacher, small("energy:0.03", steps=300), None, recording)
    record = student.provenance["compression"]
    assert 0.02 < record["tolerance"] <= 0.05
    policy = convert(student, recording)
    assert policy.conversion["tolerance"] == record["tolerance"]
    assert policy.conversion["open_loop_error"] == pytest.approx(record["tolerance"], rel=0.02)
    assert energy_share(policy, teacher, recording) == pytest.approx(record["energy"], rel=0.05)
    finer = convert(student, recording, tolerance=0.02)
    assert energy_share(finer, teacher, recording) > 1.05 * record["energy"]


@pytest.mark.parametrize(
    ("provenance", "tolerance"),
    [
        ({}, 0.02),
        ({"compression": {}}, 0.02),
        ({"compression": "none"}, 0.02),
        ({"compression": {"tolerance": 0.04}}, 0.04),
    ],
    ids=["not compressed", "an older student", "another kind of record", "made for 0.04"],
)
def test_a_conversion_without_a_tolerance_takes_the_one_that_the_actor_was_made_for(
    provenance: dict[str, Any], tolerance: float
) -> None:
    actor, recording = replace(random_actor(), provenance=provenance), walk(400, 11)
    assert convert(actor, recording).conversion["tolerance"] == tolerance
    assert convert(actor, recording, tolerance=0.01).conversion["tolerance"] == 0.01
    quanta = [np.full(width, 0.1, np.float32) for width in actor.widths]
    assert convert(actor, recording, threshold=quanta).conversion["tolerance"] is None


@pytest.mark.parametrize("forged", ["much", 0, -0.02, 1e9, float("nan"), True, [0.02], 10**400])
def test_a_forged_tolerance_in_an_actors_record_is_refused(forged: Any) -> None:
    actor = replace(random_actor(), provenance={"compression": {"tolerance": forged}})
    with pytest.raises(ValueError, match="tolerance"):
        convert(actor, walk(400, 11))


def chooser(target: str) -> Distillation:
    return Distillation(random_actor(), States(random_actor(), walk(400, 11)), small(target), None)


@pytest.mark.parametrize(
    ("target", "better", "worse"),
    [
        ("energy:0.02", Verdict(0.02, 0.994, 0.002, 0.0, 0.0, 100), Verdict(0.02, 0.996, 0.012, 0.03, 0.0, 100)),
        ("energy:0.02", Verdict(0.02, 0.98, 0.003, 0.0, 0.0, 100), Verdict(0.015, 0.97, 0.001, 0.0, 0.0, 100)),
        ("energy:0.02", Verdict(0.02, 0.9, 0.003, 0.0, 0.0, 100), Verdict(0.021, 1.0, 0.0, 0.0, 0.0, 100)),
        ("retention:0.99", Verdict(0.05, 0.991, 0.01, 0.0, 0.0, 100), Verdict(0.03, 0.98, 0.001, 0.0, 0.0, 100)),
        ("retention:0.99", Verdict(0.03, 0.991, 0.01, 0.0, 0.0, 100), Verdict(0.04, 1.0, 0.001, 0.0, 0.0, 100)),
        ("retention:0.99", Verdict(0.05, 0.985, 0.001, 0.0, 0.0, 100), Verdict(0.03, 0.986, 0.02, 0.0, 0.0, 20)),
    ],
    ids=["rare falls", "more of the return", "energy first", "return first", "cheaper", "surer"],
)
def test_of_two_students_the_one_that_surely_keeps_more_is_kept(target: str, better: Verdict, worse: Verdict) -> None:
    rank = chooser(target)._rank
    assert rank(better) > rank(worse)


@pytest.mark.parametrize(
    ("verdict", "stops"),
    [
        (Verdict(0.02, 0.997, 0.003, 0.0, 0.0, 50), True),
        (Verdict(0.02, 0.9905, 0.007, 0.01, 0.0, 100), False),
        (Verdict(0.021, 0.999, 0.001, 0.0, 0.0, 50), False),
        (Verdict(0.02, 1.2, 0.01, 0.04, 0.0, 100), False),
    ],
    ids=["beyond doubt", "one fall", "too dear", "falls more often"],
)
def test_training_for_an_energy_stops_early_only_where_the_return_is_kept_beyond_doubt(
    verdict: Verdict, stops: bool
) -> None:
    assert chooser("energy:0.02")._passes(verdict) is stops
