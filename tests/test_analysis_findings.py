"""Findings: sentences that follow from the figures, and say them."""

import math
import re
from typing import Any

import pytest

from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.findings import advice, number, observed, with_interval
from snn_policy.analysis.labels import FIGURES, SECTIONS, label, rows

ABOUT = {"neuron": "if", "timesteps": 8, "conversion": {"alpha": (0.3, 0.3)}, "episodes": 10}


def of(mean: float, spread: float = 0.0) -> Estimate:
    return Estimate(mean, (mean - spread, mean + spread), 10)


def sections(**changed: Any) -> dict[str, dict[str, Estimate]]:
    """A conversion that loses 10 %, by its states; entries are replaced by name."""
    found = {
        "return": {"snn": of(90, 2), "ann": of(100, 1), "lost": of(10, 2)},
        "decomposition": {"states": of(9.5, 2), "policy": of(0.3, 0.1), "ann_length": of(1000)},
        "consistency": {"consistency": of(0.2, 0.05), "alpha_0": of(0.3), "alpha_0.5": of(0.01), "alpha_1": of(-0.2)},
        "correction": {"correction": of(-0.15, 0.02)},
        "drift": {"drift": of(-0.01, 0.02)},
        "error": {"error": of(0.2)},
        "residual_cosine": {"all": of(0.1), "alpha_0": of(0.3), "alpha_1": of(-0.2)},
        "spectra": {"error": of(0.6, 0.05)},
        "sensitivity": {"bias@1.0": of(14, 2), "white@1.0": of(1, 1), "none@0.5": of(50)},
        "divergence": {"snn_half_way": of(40), "disturbed_half_way": of(1000)},
        "sticking": {"share": of(0.0), "longest": of(0), "wrong_rests": of(0), "resting_episodes": of(0)},
        "ablation": {"error_none": of(0.2), "error_clipping": of(0.19), "error_quantisation": of(0.01),
                     "error_unevenness": of(0.12), "gain_quantisation": of(8, 2)},
    }  # fmt: skip
    return {**found, **changed}


def said(**changed: Any) -> str:
    return "\n".join(observed(sections(**changed), ABOUT))


def advised(about: dict[str, Any] = ABOUT, **changed: Any) -> str:
    return "\n".join(advice(sections(**changed), about))


def test_a_task_that_forgives_everything_has_no_worst_disturbance():
    text = said(sensitivity={"bias@1.0": of(0.0), "white@1.0": of(0.0)})
    assert "No disturbance" in text
    assert "hurts this task most" not in text


def test_every_sentence_has_a_number():
    sentences = [*observed(sections(), ABOUT), *advice(sections(), ABOUT)]
    assert len(sentences) >= 10
    assert all(re.search(r"\d", sentence) for sentence in sentences)


@pytest.mark.parametrize(
    ("policy", "states", "dominates"),
    [(0.3, 9.5, "The states dominate: 9.50 %"), (12.0, 2.0, "The actions dominate: 12 %"), (0.1, 0.2, None)],
)  # fmt: skip
def test_what_dominates_is_the_larger_part_if_it_is_worth_a_word(policy: float, states: float, dominates: str | None):
    text = said(decomposition={"policy": of(policy), "states": of(states)})
    assert dominates in text if dominates else "dominate" not in text


@pytest.mark.parametrize(
    ("consistency", "way"),
    [
        (of(0.2, 0.1), "the same way"),
        (of(-0.3, 0.1), "opposite ways"),
        (of(0.2, 0.3), "no common"),
        (of(0.01), "no common"),
        (Estimate(0.5, (float("nan"), float("nan")), 1), "that one episode could show"),
        (Estimate(-0.5, (float("nan"), float("nan")), 1), "that one episode could show"),
    ],
)  # fmt: skip
def test_errors_have_a_direction_only_where_the_interval_says_so(consistency: Estimate, way: str):
    assert way in said(consistency={"consistency": consistency})


@pytest.mark.parametrize(
    ("lost", "verdict"), [(of(10, 2), "it loses 10 %"), (of(-5, 1), "it gains 5 %"), (of(1, 3), "may be chance")]
)
def test_the_loss_is_judged_by_its_interval(lost: Estimate, verdict: str):
    assert verdict in said(**{"return": {"snn": of(1), "ann": of(1), "lost": lost}})


ALONE = (math.nan, math.nan)


@pytest.mark.parametrize(
    ("lost", "said_of_it"),
    [
        (Estimate(12.0, ALONE, 1, 1), "the loss, 12 % (n = 1), may be chance"),
        (Estimate(-3.0, ALONE, 1, 1), "the loss, −3 % (n = 1), may be chance"),
        (Estimate(0.0, ALONE, 1, 1), "it loses nothing, 0 % (n = 1)"),
        (of(0.0), "it loses nothing, 0 % [0, 0]"),
        (of(0.0, 2.0), "may be chance"),
    ],
)
def test_one_episode_proves_no_loss_and_none_is_none(lost: Estimate, said_of_it: str):
    assert said_of_it in said(**{"return": {"snn": of(1), "ann": of(1), "lost": lost}})


@pytest.mark.parametrize(
    ("parts", "lost", "said_of_it"),
    [
        ({"states": of(9, 12)}, of(10, 2), None),  # perhaps nothing
        ({"states": Estimate(9.0, ALONE, 1, 1)}, of(10, 2), None),
        ({"states": of(9, 2), "length": of(-9, 2)}, of(0, 2), None),  # parts that cancel
        ({"states": of(1027, 9), "length": of(-994, 9)}, of(33, 9), None),  # nearly
        ({"states": of(-9, 2)}, of(10, 2), None),  # the other way than what is lost
        ({"states": of(-9, 2)}, of(-10, 2), "The states dominate: −9 %"),
        ({"states": of(0), "length": of(75, 3)}, of(75, 3), "The episodes' length dominates: 75 %"),
        ({"states": of(0), "policy": of(8, 3)}, of(9, 3), "The actions dominate: 8 %"),
    ],
)
def test_a_part_dominates_only_where_it_and_the_loss_are_certain_and_go_the_same_way(
    parts: dict[str, Estimate], lost: Estimate, said_of_it: str | None
):
    text = said(decomposition={"policy": of(0.1), **parts}, **{"return": {"snn": of(1), "ann": of(2), "lost": lost}})
    assert said_of_it in text if said_of_it else "dominate" not in text


def test_what_a_part_gains_is_no_negative_cost_and_another_length_is_named():
    text = said(decomposition={"policy": of(-0.12, 0.1), "states": of(2.0, 1), "length": of(5.0, 1)})
    assert "in the ANN's states, gain 0.12 % [0.020, 0.22] of the return" in text
    assert "the states that it gets into cost 2 % [1, 3]" in text
    assert "episodes of another length than the ANN's cost 5 % [4, 6]" in text
    assert "another length" not in said(decomposition={"policy": of(1), "states": of(1), "length": of(0.2)})


@pytest.mark.parametrize(
    ("bias", "white", "said_of_it"),
    [
        (of(14, 2), of(1, 1), "a constant error hurts this task most (14 % [12, 16]"),
        (of(1, 2), of(-4, 1), "costs anything for certain: at most 1 % [−1, 3] of the ANN's return (a constant error)"),
        (of(-1), of(-2), "costs anything for certain: at most −1 %"),
        (Estimate(60.0, ALONE, 1, 1), Estimate(1.0, ALONE, 1, 1), "in one episode, 60 % (n = 1), which may be chance"),
        (of(0), of(0), "costs anything in this task (0 %"),
    ],
)
def test_disturbances_hurt_only_where_their_intervals_say_so(bias: Estimate, white: Estimate, said_of_it: str):
    figures = {"sensitivity": {"bias@1.0": bias, "white@1.0": white}}
    assert said_of_it in said(**figures)
    assert "of 0.10 half-ranges (RMS)" in "\n".join(observed(sections(**figures), {**ABOUT, "disturbance": 0.1}))


@pytest.mark.parametrize(
    ("share", "kind"),
    [
        (of(0.9, 0.05), "mostly slow"),
        (of(0.4, 0.1), "slower than white noise"),
        (of(0.2, 0.1), "about as slow as white noise"),
        (of(0.05, 0.02), "faster than white noise"),
        (of(0.9, 0.05)._replace(samples=2), "so little hardly shows"),
        (Estimate(0.9, ALONE, 1, 400), "so little hardly shows"),
    ],
)
def test_an_error_is_slow_where_enough_segments_say_so(share: Estimate, kind: str):
    assert kind in said(spectra={"error": share})


@pytest.mark.parametrize(
    ("correction", "way"),
    [(of(-0.2, 0.1), "turns against"), (of(0.5, 0.1), "turns with"), (of(0.0, 0.1), "neither against the error nor")],
)
def test_the_ann_turns_against_errors_with_them_or_neither(correction: Estimate, way: str):
    assert way in said(correction={"correction": correction})


def test_an_ann_that_never_moves_leaves_nothing_to_stick():
    still = {"share": of(0.0), "longest": of(0), "moves": of(0.0)}
    assert "Nothing could stick" in said(sticking=still)
    assert "It never sticks" in said(sticking={**still, "moves": of(0.3)})
    one = said(sticking={"share": of(0.1), "longest": of(1.0), "moves": of(0.3)})
    assert "for 1 decision in a row" in one


def test_errors_of_choices_are_in_their_own_units():
    about = {**ABOUT, "discrete": True, "disturbance": 0.1}
    text = "\n".join([*observed(sections(), about), *advice(sections(), about)])
    assert "half-ranges" not in text
    assert "from 0.20 to 0.010 (choices, one-hot)" in text
    assert "0.10 half-spreads of the values (RMS)" in text
    assert "its error is 0.20 half-spreads of the values" in text
    assert "errors of the values that choices compare" in text


@pytest.mark.parametrize(
    ("lost", "first"),
    [
        (of(5, 8), "Take more episodes than 10 first: the loss, 5 % [−3, 13], may be chance."),
        (Estimate(5.0, ALONE, 1, 1), "Take more episodes than 1 first"),
        (Estimate(0.0, ALONE, 1, 1), "Take more episodes than 1 first"),
    ],
)
def test_more_episodes_come_before_settings_where_the_loss_may_be_chance(lost: Estimate, first: str):
    assert advised(**{"return": {"lost": lost}}).startswith(first)


@pytest.mark.parametrize(("left", "named"), [(0.199, False), (0.195, False), (0.15, True)])
def test_a_source_that_hardly_matters_is_not_named(left: float, named: bool):
    figures = {"ablation": {"error_none": of(0.2), "error_unevenness": of(left)}}
    assert ("unevenness is the largest" in said(**figures)) == named
    assert ("Against unevenness" in advised(**figures)) == named


def test_states_that_never_part_are_said_not_to():
    assert "after 40 decisions (SNN and ANN)" in said()
    assert "the ANN after more than 1,000." in said()


def test_of_the_sources_the_one_whose_absence_helps_most_is_named():
    assert "quantisation is the largest" in said()
    assert "unevenness alone the error is 0.12" in said()
    assert "clipping is the largest" in said(ablation={"error_none": of(0.2), "error_clipping": of(0.1)})
    assert "largest" not in said(ablation={"error_none": of(0.2), "error_clipping": of(0.3)})
    assert "largest" not in said(ablation={})


def test_the_alpha_with_the_least_direction_is_advised_with_its_number():
    assert "Try α = 0.5 (now 0.3)" in advised()
    assert "α = " not in advised(consistency={"consistency": of(0.02), "alpha_0.5": of(0.01)})


@pytest.mark.parametrize(
    ("own", "there", "named"),
    [
        (of(0.2, 0.05), of(0.01, 0.05), True),
        (of(0.2, 0.15), of(0.01, 0.1), False),
        (of(-0.3, 0.1), of(0.0, 0.3), False),
    ],
)
def test_an_alpha_is_advised_only_where_its_errors_differ_for_certain(own: Estimate, there: Estimate, named: bool):
    assert ("Try α = 0.5" in advised(consistency={"consistency": own, "alpha_0.5": there})) == named


@pytest.mark.parametrize(
    "sticking", [{"share": of(0.3, 0.1), "resting_episodes": of(0)}, {"share": of(0.01), "resting_episodes": of(0.2)}]
)
def test_a_policy_that_sticks_is_told_to_carry_more(sticking: dict[str, Estimate]):
    about = {"neuron": "sigma-delta", "timesteps": 20, "conversion": {"alpha": 0.0, "tolerance": 0.02}, "episodes": 10}
    assert "Set α = 0.5 (now 0)" in advised(about, sticking=sticking)
    assert "Halve the tolerance, to 0.01" in advised(about, sticking=sticking)


def test_where_nothing_is_lost_nothing_is_to_be_changed():
    assert advised(**{"return": {"lost": of(0.2, 1)}}).startswith("Change nothing")
    assert not advised(**{"return": {"lost": of(5, 8)}}).startswith("Change nothing")
    often, wrongly = ({"share": of(share), "resting_episodes": of(rest)} for share, rest in ((0.3, 0), (0.3, 0.1)))
    assert advised(sticking=often, **{"return": {"lost": of(0, 1)}}).startswith("Change nothing")
    assert advised(sticking=wrongly, **{"return": {"lost": of(0, 1)}}).startswith("Set α = 0.5")


def test_figures_that_do_not_exist_are_left_out():
    nothing = Estimate(math.nan, (math.nan, math.nan), 0)
    empty = {name: dict.fromkeys(figures, nothing) for name, figures in sections().items()}
    assert observed(empty, ABOUT) == []
    assert "nan" not in "\n".join(advice(empty, ABOUT))
    assert observed({}, ABOUT) == []
    assert advice({}, ABOUT)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (1.0, "1"), (-0.25, "−0.25"), (0.0314, "0.031"), (-0.0001, "0.000"), (12.34, "12.3"),
     (6532.8, "6,533"), (-1234.5, "−1,234"), (math.nan, "unknown"), (math.inf, "unknown")],
)  # fmt: skip
def test_numbers_are_short_and_have_a_true_minus_sign(value: float, text: str):
    assert number(value) == text


def test_an_interval_is_given_where_there_is_one():
    assert with_interval(of(1.5, 0.5), " %") == "1.50 % [1, 2]"
    assert with_interval(Estimate(1.5, (math.nan, math.nan), 1)) == "1.50"


def test_every_figure_has_a_name_and_one_without_an_interval_a_dash():
    for section, figures in FIGURES.items():
        assert section in SECTIONS
        assert len(set(figures.values())) == len(figures)
    assert label("consistency", "alpha_0.5") == "at α = 0.5"
    assert label("sensitivity", "low_passed@1.5") == "low-passed, gain 1.5: % lost"
    assert label("ablation", "gain_clipping") == "return gained without clipping, %"
    assert rows("return", {"lost": Estimate(2.0, (math.nan, math.nan), 1)}) == [("lost, % of the ANN's", "2", "–")]


FEW = {
    "consistency": "their mean cosine is 0.20 [0.10, 0.30] (n = 7)",
    "correction": "the cosine of its change is 0.20 [0.10, 0.30] (n = 7)",
    "drift": "the spiking policy's own next error it is 0.20 [0.10, 0.30] (n = 7)",
    "spectra": "20 % [10, 30] (n = 7) of its power",
    "sticking": "20 % of the decisions (n = 7) its action stays",
    "ablation": "half-ranges (n = 7)",
}


@pytest.mark.parametrize("section", FEW)
def test_a_figure_of_few_decisions_says_how_many_in_sentences_and_tables(section: str):
    figures = {name: Estimate(0.2, (0.1, 0.3), 3, 7) for name in sections()[section]}
    if section == "ablation":
        figures |= {"error_quantisation": Estimate(0.01, (0.0, 0.02), 3, 7)}
    assert FEW[section] in said(**{section: figures})
    assert all(what.endswith("(n = 7)") for what, _, _ in rows(section, figures))
    many = {name: figure._replace(samples=700) for name, figure in figures.items()}
    assert "n = " not in said(**{section: many})
    assert not any("n = " in what for what, _, _ in rows(section, many))
