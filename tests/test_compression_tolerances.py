"""The tolerance that a student's conversion is judged and kept with: half of its own error, or coarser."""

from functools import partial
from typing import Any

import pytest

from snn_policy import convert
from snn_policy.compression.compress import run_compression
from snn_policy.compression.distillation import Distillation
from snn_policy.compression.judging import energy_share
from snn_policy.compression.states import States
from snn_policy.compression.tolerances import conversion, finest_conversion, own_tolerance, tolerances_worth_having
from tests.actors import random_actor
from tests.test_compression import small, walk

pytestmark = pytest.mark.filterwarnings("ignore:.* was not reached")


@pytest.mark.parametrize(("error", "tolerance"), [(0.0, 0.02), (0.03, 0.02), (0.06, 0.03), (0.09, 0.045), (0.3, 0.05)])
def test_a_conversion_is_as_fine_as_half_of_the_students_own_error(error: float, tolerance: float) -> None:
    assert own_tolerance(error) == pytest.approx(tolerance)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0.75, 0.85, 0.95])
def test_the_finest_conversion_that_a_wanted_energy_allows_needs_nearly_all_of_it(share: float, seed: int) -> None:
    actor, rows = random_actor(widths=(48, 48), seed=seed), walk(1_500, 11, seed)
    finest = conversion(actor, actor, rows, 0.045)
    found = finest_conversion(partial(conversion, actor, actor, rows), (0.045, 0.09), share * finest.energy)
    assert 0.97 * share * finest.energy <= found.energy <= share * finest.energy
    assert 0.045 < found.tolerance < 0.09
    assert found.energy == energy_share(found.policy, actor, rows)
    assert found.policy.conversion["tolerance"] == found.tolerance


@pytest.mark.parametrize(("most", "tolerance"), [(1.0, 0.03), (1e-6, 0.06)])
def test_where_all_or_none_fit_it_is_the_finest_or_the_coarsest(most: float, tolerance: float) -> None:
    actor, rows = random_actor(widths=(48, 48)), walk(1_500, 11)
    assert finest_conversion(partial(conversion, actor, actor, rows), (0.03, 0.06), most).tolerance == tolerance


@pytest.mark.parametrize(
    ("error", "spending", "finest", "coarsest"),
    [
        (0.004, True, 0.005, 0.02), (0.012, True, 0.006, 0.02), (0.03, True, 0.015, 0.03), (0.09, True, 0.045, 0.09),
        (0.012, False, 0.02, 0.02), (0.03, False, 0.02, 0.03), (0.09, False, 0.045, 0.09), (0.4, False, 0.05, 0.1),
    ],
)  # fmt: skip
def test_tolerances_lie_between_half_of_the_students_error_and_all_of_it(
    error: float, spending: bool, finest: float, coarsest: float
) -> None:
    assert tolerances_worth_having(error, spending) == pytest.approx((finest, coarsest))


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_what_is_judged_needs_what_is_wanted_in_its_episodes_and_is_kept_so(share: float) -> None:
    teacher, recording = random_actor(widths=(64, 64)), walk(3_000, 11)
    run = Distillation(teacher, States(teacher, recording), small(), None)
    run._begin_first_stretch()
    run.progress.error, run.progress.closed_loop = 0.08, 1.1
    run.progress.goal = share * 1.1 * run.converted().energy
    run._judge_student()
    assert run.kept is not None
    kept = run.kept.verdict
    assert 0.96 * run.progress.goal <= 1.1 * kept.energy <= run.progress.goal
    assert 0.04 < kept.tolerance < 0.08
    student = run_compression(teacher, small("energy:0.02", steps=300), None, recording)
    record: dict[str, Any] = student.provenance["compression"]
    assert convert(student, recording).conversion["tolerance"] == record["tolerance"]


def test_a_given_tolerance_is_judged_whatever_the_energy() -> None:
    teacher, recording = random_actor(widths=(64, 64)), walk(3_000, 11)
    run = Distillation(teacher, States(teacher, recording), small(tolerance=0.03), None)
    run._begin_first_stretch()
    run.progress.error, run.progress.goal = 0.08, 1e-6
    run._judge_student()
    assert run.kept is not None
    assert run.kept.verdict.tolerance == 0.03
