"""evaluate and compare: which episodes are run, what they cost, and what the statistics say."""

import json
from functools import partial
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marker_env import (
    DEFAULT_LENGTHS,
    MarkerEnv,
    RecordingPolicy,
    dyadic_actor,
    make_vector,
    marker,
    spiking_policies,
)

from snn_policy.cli import main
from snn_policy.evaluation import statistics
from snn_policy.evaluation.evaluate import Comparison, Evaluation, compare, evaluate
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval

SPIKING = spiking_policies()
MAKERS: dict[str, Any] = {"recording": RecordingPolicy, "ann": dyadic_actor, **SPIKING}
seeded = partial(MarkerEnv, seeded=True)
run: Any = evaluate  # also with arguments that their types rule out
run_both: Any = compare
wrap: Any = SpikingPolicyEval
wrap_vector: Any = SpikingPolicyVectorEval


def without_time(found: Evaluation) -> dict[str, Any]:
    timed = ("microseconds", "policy_seconds", "environment_seconds", "num_envs")
    return {name: value for name, value in found.as_dict().items() if name not in timed}


def with_returns(*returns: float, energy: float = 1.0) -> Evaluation:
    """An evaluation with these returns and this many nanojoules per decision."""
    n = len(returns)
    return Evaluation("x", tuple(range(n)), returns, (1,) * n, 1, n, (0.0,), 0.0, energy * 1000 / 4.6, 1.0, {})


@pytest.mark.parametrize("name", MAKERS)
def test_results_do_not_depend_on_how_many_environments_run_side_by_side(name):
    alone, *others = (evaluate(MAKERS[name](), seeded, episodes=11, seed=2, num_envs=n) for n in (1, 3, 11, 40))
    assert alone.seeds == tuple(range(2, 13))
    assert alone.lengths == tuple(DEFAULT_LENGTHS[seed % 5] for seed in alone.seeds)
    assert [other.num_envs for other in others] == [3, 11, 11]
    for other in others:
        assert without_time(other) == without_time(alone)


def test_costs_are_averages_over_the_decisions_of_the_episodes_asked_for():
    found = evaluate(RecordingPolicy(), seeded, episodes=7, seed=1, num_envs=3)
    decided = [marker(seed, step) for seed in range(1, 8) for step in range(DEFAULT_LENGTHS[seed % 5])]
    assert found.decisions == sum(found.lengths) == len(decided)
    assert found.spikes == (pytest.approx(np.mean(decided)), 1.0)
    assert found.spikes_per_decision == pytest.approx(np.mean(decided) + 1)
    assert found.synaptic_operations == pytest.approx(10 * found.spikes_per_decision)
    assert found.energy == pytest.approx(0.9e-3 * found.synaptic_operations)
    assert found.microseconds > 0


@pytest.mark.parametrize("name", SPIKING)
def test_evaluate_sums_up_what_the_wrapper_reports(name):
    policy = SPIKING[name]()
    found = evaluate(policy, seeded, episodes=5, seed=0, num_envs=2)
    env = SpikingPolicyEval(seeded(), policy)
    summaries = []
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        info: dict[str, Any] = {"snn": {}}
        while "episode" not in info["snn"]:
            obs, _, _, _, info = env.step(env.act(obs))
        summaries.append(info["snn"]["episode"])
    assert found.returns == tuple(summary["return"] for summary in summaries)
    assert found.energy * found.decisions == pytest.approx(sum(summary["energy"] for summary in summaries))
    assert np.array(found.spikes) * found.decisions == pytest.approx(sum(summary["spikes"] for summary in summaries))


def test_a_used_policy_is_evaluated_from_zero():
    policy = RecordingPolicy()
    policy.act(np.ones(4))
    again = evaluate(policy, seeded, episodes=4, num_envs=2)
    assert without_time(again) == without_time(evaluate(RecordingPolicy(), seeded, episodes=4, num_envs=2))


def test_steps_are_not_cut_to_the_integers_of_a_reset():
    """Hand-written environments reset to np.zeros(n, int) and step to floats."""

    class Whole(MarkerEnv):
        def reset(self, **options: Any) -> Any:
            obs, info = super().reset(**options)
            return obs.astype(int), info

    class Rounded(Whole):
        def reset(self, **options: Any) -> Any:
            obs, info = super().reset(**options)
            return obs.astype(np.float32), info

    policy = spiking_policies()["sigma-delta"]()
    found, expected = (evaluate(policy, partial(element, seeded=True), episodes=5) for element in (Whole, Rounded))
    assert without_time(found) | {"environment": ""} == without_time(expected) | {"environment": ""}


def test_environments_are_closed_also_after_an_error():
    closed = []

    class Fragile(MarkerEnv):
        def step(self, action: Any) -> Any:
            raise RuntimeError("broken joint")

        def close(self) -> None:
            closed.append(self)

    with pytest.raises(RuntimeError, match="broken joint"):
        evaluate(RecordingPolicy(), Fragile, episodes=4, num_envs=3)
    assert len(closed) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"episodes": 0}, "episodes: expected a whole number of at least 1, got 0"),
        ({"num_envs": 0}, "num_envs: expected a whole number of at least 1, got 0"),
        ({"workers": -1}, "workers: expected a whole number of at least 0, got -1"),
        ({"env": "Pendulum-v1"}, r"Pendulum-v1 does not fit the policy: .* \(3,\) .* \(4,\)"),
        ({"env": "Nothing-v7"}, "'Nothing-v7' cannot be made"),
    ],
)
def test_mistakes_are_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate(RecordingPolicy(), **{"env": MarkerEnv, **arguments})


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (
            lambda ann, snn: run_both(snn, ann, seeded),
            r"compare\(actor, policy, env\).* got a SpikingPolicy .* swapped",
        ),
        (lambda ann, snn: run_both(snn, snn, seeded), r"the ANN first, got a SpikingPolicy there; .* its .actor"),
        (
            lambda ann, snn: run_both("Pendulum-v1", ann, snn),
            r"got \(str, Actor, SpikingPolicy\); the arguments are swapped",
        ),
        (
            lambda ann, snn: run_both(ann, seeded, snn),
            r"got \(Actor, partial, SpikingPolicy\); the arguments are swapped",
        ),
        (
            lambda ann, snn: run("Pendulum-v1", ann),
            r"expected evaluate\(policy, env\), got \(str, Actor\); .* swapped",
        ),
        (lambda ann, snn: run(seeded, snn), r"got \(partial, SpikingPolicy\); the arguments are swapped"),
        (lambda ann, snn: run(MarkerEnv(), snn), r"got \(MarkerEnv, SpikingPolicy\); the arguments are swapped"),
        (lambda ann, snn: run(None, "Pendulum-v1"), r"got \(NoneType, str\)$"),
        (lambda ann, snn: wrap(snn, MarkerEnv()), r"SpikingPolicyEval\(env, policy\).* swapped"),
        (lambda ann, snn: wrap_vector(snn, make_vector()), r"SpikingPolicyVectorEval\(env.* swapped"),
        (lambda ann, snn: wrap(make_vector(), snn), "use SpikingPolicyVectorEval"),
        (lambda ann, snn: wrap_vector(MarkerEnv(), snn), "a single one takes SpikingPolicyEval"),
    ],
)
def test_arguments_in_another_order_are_named(call, complaint):
    with pytest.raises(TypeError, match=complaint) as caught:
        call(dyadic_actor(), SPIKING["sigma-delta"]())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spiking", ["td3-Pendulum-v1", "bundle", "exported"])
def test_the_command_compare_names_swapped_arguments(spiking, tmp_path, capsys):
    saved: Any = SPIKING["sigma-delta"]()
    if spiking == "bundle":
        saved.save(tmp_path / spiking)
    elif spiking == "exported":
        (tmp_path / spiking).mkdir()
        (tmp_path / spiking / "decision.onnx").touch()
    path = spiking if "-" in spiking else str(tmp_path / spiking)
    (tmp_path / "model.zip").touch()
    assert main(["compare", path, str(tmp_path / "model.zip")]) == 2
    said = capsys.readouterr().err
    assert f"the two are swapped, the ANN comes first: snn-policy compare {tmp_path / 'model.zip'} {path}" in " ".join(
        said.split()
    )


def test_an_environment_instead_of_a_function_is_told_the_way_out():
    with pytest.raises(ValueError, match=r"function that makes one, got MarkerEnv; give lambda: gym.make"):
        run(RecordingPolicy(), MarkerEnv())


def test_the_record_can_be_written_as_json():
    found = evaluate(RecordingPolicy(), "Marker-v0", episodes=3)
    data = json.loads(found.to_json())
    assert data["environment"] == "Marker-v0"
    assert data["returns"] == list(found.returns)
    assert data["interval"] == list(found.interval)
    assert data["versions"]["gymnasium"] == gym.__version__
    assert data["versions"]["snn_policy"] == version("snn-policy")
    assert {"numpy", "python"} <= set(data["versions"])


def test_progress_is_written_to_stderr_only_and_only_when_asked_for(capsys):
    evaluate(RecordingPolicy(), MarkerEnv, episodes=3)
    assert capsys.readouterr() == ("", "")
    evaluate(RecordingPolicy(), MarkerEnv, episodes=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "episodes" in err
    assert "3/3" in err


def test_compare_runs_both_on_the_same_seeds():
    actor, policy = dyadic_actor(), SPIKING["sigma-delta"]()
    found = compare(actor, policy, seeded, episodes=6, seed=3, num_envs=2)
    assert found.ann.seeds == found.snn.seeds == tuple(range(3, 9))
    assert found.dense_energy == pytest.approx(4.6e-3 * (4 * 12 + 12 * 12 + 12 * 2))
    assert found.zero_skipping_share == pytest.approx(found.ann.multiply_accumulates / (4 * 12 + 12 * 12 + 12 * 2))
    assert 0 < found.zero_skipping_share < 1
    assert found.energy_share == pytest.approx(found.snn.energy / found.dense_energy)
    data = json.loads(found.to_json())
    assert data["retention_of_means"] == found.retention_of_means
    assert data["ann"]["returns"] == list(found.ann.returns)


def test_retention_means_the_same_for_negative_returns():
    good = Comparison(with_returns(100, 100), with_returns(90, 90), 1)
    bad = Comparison(with_returns(-100, -100), with_returns(-110, -110), 1)
    assert good.retention_of_means == good.retention_of_medians == pytest.approx(0.9)
    assert bad.retention_of_means == bad.retention_of_medians == pytest.approx(0.9)
    assert Comparison(with_returns(-100.0), with_returns(-90.0), 1).retention_of_means == pytest.approx(1.1)


def test_retention_without_any_return_to_retain_is_not_a_number_but_null_in_json():
    nothing = Comparison(with_returns(0.0), with_returns(5.0), 1)
    assert np.isnan(nothing.retention_of_means)
    assert json.loads(nothing.to_json())["retention_of_means"] is None
    assert Comparison(with_returns(0.0), with_returns(0.0), 1).retention_of_means == 1


def test_failures_are_counted_against_the_anns_median():
    found = Comparison(with_returns(10, 100, 100, 100), with_returns(79, 81, 79.9, 300), 1)
    assert (found.ann_failed, found.snn_failed) == (0.25, 0.5)
    below_zero = Comparison(with_returns(-100, -100), with_returns(-119, -121), 1)
    assert (below_zero.ann_failed, below_zero.snn_failed) == (0, 0.5)


def test_energy_is_compared_with_the_dense_and_the_zero_skipping_ann():
    found = Comparison(with_returns(1.0, energy=2.0), with_returns(1.0, energy=1.0), round(4.0 * 1000 / 4.6))
    assert found.energy_share == pytest.approx(0.25, rel=1e-3)
    assert found.zero_skipping_share == pytest.approx(0.5, rel=1e-3)


def test_paired_resampling_narrows_the_interval_of_two_policies_that_share_their_luck():
    luck = np.random.default_rng(1).normal(100, 30, 40)
    low, high = statistics.retention_interval(statistics.mean, luck, 0.95 * luck)
    assert (low, high) == (pytest.approx(0.95), pytest.approx(0.95))
    low, high = statistics.retention_interval(statistics.mean, luck, 0.95 * luck[::-1])
    assert high - low > 0.1


def test_intervals_cover_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = statistics.bootstrap_interval(statistics.mean, rng.normal(3.0, 1.0, 30))
        inside += low < 3.0 < high
    assert 182 <= inside <= 196


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=40))
def test_the_interquartile_mean_ignores_the_outer_quarters(returns):
    inner = sorted(returns)[len(returns) // 4 : len(returns) - len(returns) // 4]
    assert statistics.interquartile_mean(returns) == pytest.approx(np.mean(inner))
    low, high = statistics.bootstrap_interval(statistics.interquartile_mean, returns)
    assert min(returns) <= low <= high <= max(returns)
    assert statistics.bootstrap_interval(statistics.interquartile_mean, returns) == (low, high)
