"""OnnxPolicy is a `Policy` like SpikingPolicy: the same actions, checks, resets and counters, from the files alone."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import OnnxPolicy, Policy, SourceError, SpikeCalibration, SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import KINDS, dyadic_actor, dyadic_observations, membrane_neurons, policies, same_state
from tests.bundles import BUNDLE_FILES, file_of
from tests.test_without_torch import BLOCK

GRAPHS = ("decision", "step")
WRONG = [np.full(4, np.nan), np.full(4, np.inf), np.full(4, 1e200), np.zeros(3), np.zeros((0, 4)), np.zeros((1, 1, 4)),
         ["a"] * 4, np.zeros(4, complex)]  # fmt: skip


@pytest.fixture(scope="module")
def directories(graphs_of_kind: Callable[[str], Path]) -> dict[str, Path]:
    """An export of every kind, by name."""
    return {kind: graphs_of_kind(kind) for kind in KINDS}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_and_counts_like_the_policy(kind: str, graph: str, directories: dict[str, Path]) -> None:
    ours, exported = policies()[kind], OnnxPolicy(directories[kind], graph=graph)
    assert isinstance(exported, Policy)
    assert exported.timesteps == ours.timesteps
    assert np.array_equal(exported.low, ours.low)
    assert np.array_equal(exported.high, ours.high)
    for rows in (None, 3):
        for policy in (ours, exported):
            policy.reset(num_envs=rows)
        for obs in dyadic_observations(12, (3, 4) if rows else (4,)):
            mine, theirs = exported.act(obs), ours.act(obs)
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)
        mine, theirs = exported.last_decision, ours.last_decision
        assert mine is not None
        assert mine is exported.last_decision
        assert theirs is not None
        for name in ("spikes", "synaptic_operations", "multiply_accumulates", "iterations", "error_spikes"):
            assert np.array_equal(getattr(mine, name), getattr(theirs, name)), name
        for name in ("decisions", "spikes", "synaptic_operations", "multiply_accumulates"):
            assert np.array_equal(getattr(exported.counters, name), getattr(ours.counters, name)), name


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_resting_rows_and_predict(kind: str, graph: str, directories: dict[str, Path]) -> None:
    ours, exported = policies()[kind], OnnxPolicy(directories[kind], graph=graph)
    for policy in (ours, exported):
        policy.reset(num_envs=3)
    rng, observations = np.random.default_rng(0), dyadic_observations(24, (3, 4))
    states: list[Any] = [None, None]
    for turn, obs in enumerate(observations):
        mask = rng.integers(0, 2, 3).astype(bool)
        if turn % 3 == 0:
            for policy in (ours, exported):
                policy.reset(mask)
        active = None if turn % 2 else mask
        assert np.array_equal(ours.act(obs, active=active), exported.act(obs, active=active))
        for name in ("decisions", "spikes", "synaptic_operations", "multiply_accumulates"):
            assert np.array_equal(getattr(exported.counters, name), getattr(ours.counters, name)), name
    for policy in (ours, exported):
        policy.reset()
    for obs in observations:
        starts = rng.integers(0, 4, 3) == 0
        (one, states[0]), (other, states[1]) = (
            policy.predict(obs, state, starts) for policy, state in zip((ours, exported), states, strict=True)
        )
        assert np.array_equal(one, other)
    assert np.array_equal(ours.counters.spikes, exported.counters.spikes)


@pytest.mark.parametrize("graph", GRAPHS)
def test_states_can_be_kept_and_given_back(graph: str, directories: dict[str, Path]) -> None:
    policy, observations = OnnxPolicy(directories["sigma-delta"], graph=graph), dyadic_observations(20)
    for obs in observations[:10]:
        policy.act(obs)
    kept = policy.state
    first = [policy.act(obs) for obs in observations[10:]]
    policy.state = kept
    assert np.array_equal(first, [policy.act(obs) for obs in observations[10:]])
    action, after = policy.step(observations[10], kept)
    assert np.array_equal(action, first[0])
    assert not same_state(after, kept)
    again = pickle.loads(pickle.dumps(kept))
    assert same_state(again, kept)


@pytest.mark.parametrize("graph", GRAPHS)
def test_copies_and_pickles_go_on_by_themselves(graph: str, directories: dict[str, Path]) -> None:
    policy, observations = OnnxPolicy(directories["mt-rate"], graph=graph), dyadic_observations(20)
    for obs in observations[:10]:
        policy.act(obs)
    twins = [copy.deepcopy(policy), copy.copy(policy), pickle.loads(pickle.dumps(policy))]
    wanted = [policy.act(obs) for obs in observations[10:]]
    for twin in twins:
        assert np.array_equal(wanted, [twin.act(obs) for obs in observations[10:]])
        assert np.array_equal(twin.counters.spikes, policy.counters.spikes)


def test_a_pickle_refuses_another_file(tmp_path: Path) -> None:
    policies()["if-rate"].export_onnx(tmp_path)
    pickled = pickle.dumps(OnnxPolicy(tmp_path))
    policies()["mt-rate"].export_onnx(tmp_path)
    with pytest.raises(SourceError, match="not the graph"):
        pickle.loads(pickled)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.float16])
def test_any_real_dtype_is_taken(dtype: Any, directories: dict[str, Path]) -> None:
    policy, plain = (OnnxPolicy(directories["if-rate"]) for _ in range(2))
    *observations, last = dyadic_observations(5)
    for obs in observations:
        assert np.array_equal(policy.act(np.round(obs).astype(dtype)), plain.act(np.round(obs)))
    assert np.array_equal(policy.act(last.tolist()), plain.act(last))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_wrong_observations_leave_the_state_untouched(wrong: Any, directories: dict[str, Path]) -> None:
    policy = OnnxPolicy(directories["sigma-delta"])
    policy.act(dyadic_observations(1)[0])
    before = policy.state
    with pytest.raises(ValueError, match="observation"):
        policy.act(wrong)
    assert same_state(before, policy.state)
    assert policy.counters.decisions.tolist() == [1]


def test_another_batch_size_needs_a_reset(directories: dict[str, Path]) -> None:
    policy = OnnxPolicy(directories["snm-rate"])
    policy.act(dyadic_observations(2))
    with pytest.raises(ValueError, match=r"reset\(num_envs=3\)"):
        policy.act(dyadic_observations(3))
    policy.reset()
    assert policy.act(dyadic_observations(3)).shape == (3, 2)


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    policies()["if-rate"].export_onnx(tmp_path, batch=2)
    policy = OnnxPolicy(tmp_path)
    assert policy.act(dyadic_observations(2)).shape == (2, 2)
    policy.reset()
    for wrong in (lambda: policy.act(dyadic_observations(1)[0]), lambda: policy.reset(num_envs=3)):
        with pytest.raises(ValueError, match="batches of 2"):
            wrong()
    assert policy.act(dyadic_observations(2)).shape == (2, 2)


def test_adaptive_calibration_reports_its_iterations(tmp_path: Path) -> None:
    actor = dyadic_actor()
    neurons = membrane_neurons(actor, calibration=SpikeCalibration(adaptive=(0, 3)))
    ours = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    ours.export_onnx(tmp_path)
    policy = OnnxPolicy(tmp_path)
    for obs in dyadic_observations(30):
        assert np.array_equal(policy.act(obs), ours.act(obs))
        mine, theirs = policy.last_decision, ours.last_decision
        assert mine is not None
        assert theirs is not None
        assert (mine.iterations, mine.error_spikes) == (theirs.iterations, theirs.error_spikes)


def test_discrete_actions(tmp_path: Path) -> None:
    from tests.actors import sigma_delta_neurons

    actor = dyadic_actor(kind="argmax", outputs=3)
    ours = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)), engine="numpy")
    ours.export_onnx(tmp_path)
    policy = OnnxPolicy(tmp_path)
    assert policy.discrete
    assert (policy.low, policy.high, policy.action_shape) == (0, 2, ())
    for obs in dyadic_observations(20):
        action = policy.act(obs)
        assert action == ours.act(obs)
        assert action.dtype == np.int64


def test_infinite_bounds_survive(tmp_path: Path) -> None:
    from snn_policy.ann.layers import Head
    from tests.actors import sigma_delta_neurons

    actor = dyadic_actor()
    actor.head = Head.clip([-np.inf, -1], [np.inf, 2])
    SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)), engine="numpy").export_onnx(tmp_path)
    policy = OnnxPolicy(tmp_path)
    assert policy.low.tolist() == [-np.inf, -1]
    assert policy.high.tolist() == [np.inf, 2]


def test_one_directory_serves_both_policies(tmp_path: Path) -> None:
    ours = policies("event")["mt-differential"]
    ours.save(tmp_path)
    ours.export_onnx(tmp_path)
    loaded, exported = SpikingPolicy.load(tmp_path), OnnxPolicy(tmp_path)
    for obs in dyadic_observations(10):
        assert np.array_equal(loaded.act(obs), exported.act(obs))
    for other in BUNDLE_FILES:
        file_of(tmp_path, other).unlink()
    (obs,) = dyadic_observations(1)
    assert np.array_equal(OnnxPolicy(tmp_path).act(obs), OnnxPolicy(tmp_path / "decision.onnx").act(obs))
    assert OnnxPolicy(tmp_path / "step.onnx").description.graph == "step"


@pytest.mark.parametrize("name", ["decision.onnx", "step.onnx"])
def test_graphs_of_an_older_policy_are_refused(name: str, tmp_path: Path) -> None:
    policies()["if-rate"].export_onnx(tmp_path)
    older = (tmp_path / name).read_bytes()
    policies()["mt-rate"].save(tmp_path)
    with pytest.raises(SourceError, match="export it again"):
        OnnxPolicy(tmp_path / name)
    policies()["mt-rate"].export_onnx(tmp_path)
    assert OnnxPolicy(tmp_path / name).description.neuron == "mt"
    (tmp_path / name).write_bytes(older)
    with pytest.raises(SourceError, match="export it again"):
        OnnxPolicy(tmp_path / name)
    (tmp_path / "policy.json").write_text("[")
    with pytest.raises(SourceError, match="export it again"):
        OnnxPolicy(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path: Path, directories: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError, match=r"decision\.onnx"):
        OnnxPolicy(tmp_path)
    with pytest.raises(ValueError, match="graph 'both'"):
        OnnxPolicy(tmp_path, graph="both")
    with pytest.raises(ValueError, match="NoSuchProvider"):
        OnnxPolicy(directories["if-rate"], providers=["NoSuchProvider"])
    policies()["if-rate"].export_onnx(tmp_path, counts=False)
    with pytest.raises(SourceError, match="without counts"):
        OnnxPolicy(tmp_path)


ACT = """
import json
import numpy as np
from snn_policy import OnnxPolicy
observations = np.load(sys.argv[1])
policies = [OnnxPolicy(sys.argv[2], graph=graph) for graph in ("decision", "step")]
assert not {"torch", "onnx", "onnxscript"} & set(sys.modules)
print(json.dumps([[policy.act(obs).tolist() for obs in observations] for policy in policies]))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_neither_torch_nor_onnx_is_needed_to_run(kind: str, directories: dict[str, Path], tmp_path: Path) -> None:
    observations = dyadic_observations(8)
    np.save(tmp_path / "observations.npy", observations)
    program = [sys.executable, "-c", BLOCK + ACT, str(tmp_path / "observations.npy"), str(directories[kind])]
    finished = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    ours = policies()[kind]
    wanted = [ours.act(obs).tolist() for obs in observations]
    assert json.loads(finished.stdout) == [wanted, wanted]


def test_torch_is_not_needed_to_export(tmp_path: Path) -> None:
    policies()["sigma-delta"].save(tmp_path)
    without = BLOCK.replace('"onnx", ', "")
    program = without + "from snn_policy import SpikingPolicy\nSpikingPolicy.load(sys.argv[1]).export_onnx(sys.argv[1])"
    finished = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert OnnxPolicy(tmp_path).timesteps == policies()["sigma-delta"].timesteps
