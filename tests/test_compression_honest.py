"""What a compression says of its student is true of the conversion that users get, and what is lost is told."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import convert, load_actor
from snn_policy.compression.compress import _result, run_compression
from snn_policy.compression.distillation import JUDGE_SEED, Kept
from snn_policy.compression.judging import Verdict, energy_share
from snn_policy.compression.student import Student
from snn_policy.energy import nanojoules
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import retention
from snn_policy.exported import path as shipped
from snn_policy.offline.td3bc_networks import FlatParameters
from tests.actors import random_actor
from tests.test_compression import PENDULUM, small, walk


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


@pytest.mark.parametrize("verdict", [Verdict(0.01), Verdict(0.01, 0.985, 0.01), Verdict(0.01, 1.01, 0.001)])
def test_a_student_that_keeps_its_return_or_was_not_judged_has_no_line(verdict: Verdict) -> None:
    assert told("energy:0.02", verdict) == []


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
