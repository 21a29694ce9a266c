"""What a compression says of its student is true of the conversion that users get, and what is lost is told."""

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import convert, load_actor
from snn_policy.cli import main
from snn_policy.compression.checkpoints import CHECKPOINT_FILE
from snn_policy.compression.compress import _result, run_compression
from snn_policy.compression.distillation import JUDGE_SEED, Kept
from snn_policy.compression.judging import Verdict, energy_share
from snn_policy.compression.states import States
from snn_policy.compression.student import Student
from snn_policy.energy import nanojoules
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import retention
from snn_policy.exported import path as shipped
from snn_policy.offline.td3bc_networks import FlatParameters
from tests.actors import random_actor
from tests.test_compression import PENDULUM, rewritten, small, walk


@pytest.mark.filterwarnings("ignore:.* was not reached")
@pytest.mark.parametrize("tolerance", [None, 0.03, 0.08])
def test_the_recorded_energy_and_return_are_those_of_the_conversion_that_users_get(tolerance: float | None) -> None:
    teacher = load_actor(shipped("td3-Pendulum-v1"))
    student = run_compression(teacher, small("energy:0.05", steps=100, tolerance=tolerance), PENDULUM)
    record = student.provenance["compression"]
    policy = convert(student, student.collect(PENDULUM))
    found = evaluate(policy, PENDULUM, episodes=record["episodes"], seed=JUDGE_SEED)
    energy = float(nanojoules(0, found.synaptic_operations) / nanojoules(teacher.dense_macs, 0))
    assert energy == pytest.approx(record["energy"], rel=1e-3)
    ann = evaluate(teacher, PENDULUM, episodes=record["episodes"], seed=JUDGE_SEED)
    assert retention(np.mean(ann.returns), np.mean(found.returns)) == pytest.approx(record["retention"], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.* was not reached")
@pytest.mark.parametrize("rows", [3_000, 9_000, 14_000])
def test_of_a_recording_alone_the_recorded_energy_is_that_on_all_of_it(rows: int) -> None:
    teacher, recording = random_actor(widths=(16, 16)), walk(rows, 11)
    recording[: rows // 2] *= 3
    student = run_compression(teacher, small("energy:0.1", steps=100), None, recording)
    energy = energy_share(convert(student, recording), teacher, recording)
    assert energy == pytest.approx(student.provenance["compression"]["energy"], rel=1e-6)


def test_what_convert_says_of_a_run_s_own_states_is_not_said_by_the_run() -> None:
    teacher, recording = random_actor(widths=(16, 16)), walk(600, 11)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_compression(teacher, small("energy:0.3", steps=100, tolerance=1e-4), None, recording)
    assert [str(warning.message) for warning in caught if "tolerance" in str(warning.message)] == []


def told(target: str, verdict: Verdict) -> list[str]:
    """What is said of a student with this verdict."""
    teacher = random_actor(widths=(16, 16))
    student = Student(teacher, 0)
    parameters = FlatParameters(student)
    kept = Kept(parameters.values.clone(), [mask.clone() for mask in student.kept], verdict, 100)
    run: Any = SimpleNamespace(
        kept=kept, settings=small(target), parameters=parameters, student=student, teacher=teacher, states=[]
    )
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _result(run, None)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("retention", "error"), [(-9.26, 0.26), (0.5, 0.1), (0.95, 0.015)])
def test_a_student_that_reaches_its_energy_and_loses_return_is_told(retention: float, error: float) -> None:
    (line,) = told("energy:0.02", Verdict(0.0123, retention, error, episodes=20))
    assert "energy:0.02 was reached, but return is lost" in line
    assert f"energy 0.0123, {retention:.3f} ± {error:.3f} of the return in 20 episodes" in line
    assert line.endswith("give more steps or energy")


@pytest.mark.parametrize("error", [0.11, 0.34, 7.0])
def test_a_student_that_errs_much_and_ran_no_episodes_is_told(error: float) -> None:
    (line,) = told("energy:0.02", Verdict(0.0074, error=error))
    assert f"by {error:.2f} half-ranges (RMS) on the recording, and no episodes were run to tell what" in line
    assert line.endswith("give more steps or energy, or env")


@pytest.mark.parametrize(
    "verdict",
    [Verdict(0.01), Verdict(0.01, error=0.093), Verdict(0.01, 0.985, 0.01), Verdict(0.01, 1.01, 0.001),
     Verdict(0.01, 1.0, 0.001, episodes=80, error=0.2)],
)  # fmt: skip
def test_a_student_that_keeps_its_return_or_was_not_judged_has_no_line(verdict: Verdict) -> None:
    assert told("energy:0.02", verdict) == []


@pytest.mark.filterwarnings("ignore:.* no episodes were run", "ignore:.* was not reached")
@pytest.mark.parametrize("kind", ["tanh", "clip", "argmax"])
def test_of_a_recording_alone_the_error_on_it_is_recorded_and_nothing_of_episodes(kind: Any) -> None:
    teacher, recording = random_actor(kind=kind, widths=(16, 16)), walk(600, 11)
    student = run_compression(teacher, small("energy:0.1", steps=100), None, recording)
    record, states = student.provenance["compression"], States(teacher, recording)
    done, taught = (actor.activations(recording)[1] for actor in (student, teacher))
    difference = states.error.action(torch.from_numpy(done)) - states.error.action(torch.from_numpy(taught))
    assert record["error"] == pytest.approx(float(difference.square().mean().sqrt()), rel=1e-4)
    assert {record[name] for name in ("retention", "standard_error", "failed", "teacher_failed")} == {None}
    assert record["episodes"] == 0


@pytest.mark.filterwarnings("ignore:.* was not reached")
def test_with_episodes_the_error_is_that_on_the_student_s_own_states() -> None:
    teacher = load_actor(shipped("td3-Pendulum-v1"))
    student = run_compression(teacher, small("energy:0.05", steps=100), PENDULUM)
    record, own = student.provenance["compression"], student.collect(PENDULUM)
    difference = (student.act(own) - teacher.act(own)) / teacher.head.half_range(infinite=np.inf)
    assert record["error"] == pytest.approx(float(np.sqrt(np.mean(difference**2))), rel=1e-3)
    assert isinstance(record["failed"], float)


@pytest.mark.parametrize("env", [None, PENDULUM])
def test_a_checkpoint_keeps_the_error_and_one_without_it_is_read(env: str | None, tmp_path: Path) -> None:
    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = walk(600, 3) if env is None else None
            settings = small("energy:0.05", steps=100)
            return run_compression(teacher, settings, env, given, tmp_path, resume=True).provenance["compression"]

    teacher = load_actor(shipped("td3-Pendulum-v1"))
    made = run()
    assert run() == made
    rewritten(tmp_path / CHECKPOINT_FILE, lambda _, progress: progress["kept"]["verdict"].pop("error"))
    assert run() == {**made, "error": None}


def test_the_command_tells_the_error_and_its_bar_ends_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "log.npy", walk(400, 3))
    command = ["compress", "td3-Pendulum-v1", "--observations", str(tmp_path / "log.npy"), "--target", "energy:0.02"]
    assert main([*command, "--out", str(tmp_path / "out"), "--steps", "250"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"energy 0\.0\d+, action error \d\.\d{3}$", out.splitlines()[0])
    assert "250/250" in err


@pytest.mark.parametrize(
    ("target", "verdict", "said"),
    [
        ("energy:0.0001", Verdict(0.00409), "(energy 0.00409);"),
        ("energy:0.0001", Verdict(7.437e-4, 0.5, 0.1, episodes=20), "(energy 0.000744, 0.500 ± 0.100 of the return in 20 episodes);"),  # noqa: E501
        ("retention:0.99", Verdict(0.0075, 0.97387104, 0.0119, episodes=100), "(energy 0.0075, 0.974 ± 0.012 of the return in 100 episodes);"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_target_that_is_missed_is_told_in_few_digits_and_without_what_was_not_judged(
    target: str, verdict: Verdict, said: str
) -> None:
    (line,) = told(target, verdict)
    assert "was not reached" in line
    assert said in line
    assert "None" not in line
