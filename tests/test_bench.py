"""`bench`: the ANN it compares with is the actor, its ratios are to that ANN, and every baseline decides alike."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Normaliser
from snn_policy.bench.baselines import BASELINES, MEMBRANE, REFERENCE, SIGMA_DELTA, VARIANTS, LeftOut, on_engine
from snn_policy.bench.decisions import time_decisions
from snn_policy.bench.timing import BURST, LEAST_BURST, recorded_stream, take_turns
from snn_policy.cli import main
from snn_policy.exporting.ann import actor_onnx
from tests.actors import (
    ALL_ACTIVATIONS,
    HEAD_KINDS,
    IMAGE,
    dyadic_image_actor,
    image_walk,
    make_head,
    random_actor,
    walk,
)

ANNS = ("ANN, NumPy", "ANN, Actor.act")
GRAPHS = tuple(name for name in BASELINES if name.endswith(".onnx"))


@pytest.fixture(scope="module")
def actor() -> Actor:
    return random_actor(widths=(24, 20), normalised=True)


@pytest.fixture(scope="module")
def converted(actor: Actor) -> dict[str, SpikingPolicy]:
    return {name: convert(actor, walk(300), neuron=VARIANTS[name]) for name in (SIGMA_DELTA, MEMBRANE)}


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda a: a.name)
def test_the_onnx_graph_is_the_actor(activation: Activation, kind: str) -> None:
    actor = random_actor(activation=activation, kind=kind)  # pyright: ignore[reportArgumentType]
    shape = actor.observation_shape
    actor.normaliser = Normaliser(np.full(shape, 0.5, np.float32), np.full(shape, 2, np.float32), 3.0)
    observations = 3 * walk(50, shape)
    session = onnxruntime.InferenceSession(actor_onnx(actor), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"obs": observations})
    assert np.allclose(np.asarray(actions), actor.act(observations), atol=1e-5)


def test_the_onnx_graph_of_a_convolutional_actor_is_the_actor() -> None:
    actor, observations = dyadic_image_actor(), image_walk(20)
    session = onnxruntime.InferenceSession(actor_onnx(actor), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"obs": observations.astype(np.float32)})
    assert np.allclose(np.asarray(actions), actor.act(observations), atol=1e-5)


def test_a_quantised_actor_is_timed_with_the_neurons_that_stand_for_it() -> None:
    actor = random_actor(activation=Activation("qcfs", 1.0, 4), widths=(16, 12))
    baselines = {name: BASELINES[name] for name in ANNS}
    measured = time_decisions(actor, walk(300), ("event",), baselines, rounds=1)
    names = [timing.name for timing in measured.timings]
    assert names[0] == REFERENCE
    assert {f"{SIGMA_DELTA}, event", "IF T=4, event", "IF T=8, calibration I=1, event"} <= {*names}
    assert not any(name.startswith(("MT", "SNM")) for name in names)


def test_the_command_stores_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import snn_policy.bench.decisions as decisions

    actor = random_actor(shape=(3,), widths=(8,), outputs=1)
    monkeypatch.setattr(actor, "env_id", "Pendulum-v1")
    monkeypatch.setattr(actor, "collect", lambda env, progress: walk(200, (3,)))
    monkeypatch.setattr("snn_policy.commands.bench.read_actor", lambda source: actor)
    monkeypatch.setattr(decisions, "BASELINES", {})
    file = tmp_path / "decisions.json"
    assert main(["bench", "x", "--engines", "event", "--rounds", "1", "--json", str(file)]) == 0
    measured = json.loads(file.read_text())
    assert measured["timings"][0]["ratio"] == 1
    assert measured["overheads"][0]["kernel"] > 0
    assert measured["versions"].keys() >= {"numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--scaling"], "--scaling"), (["--plot", "."], "--plot"), (["--engines", "fast"], "--engines fast: expected")],
)
def test_mistakes_are_named_before_any_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "td3-Pendulum-v1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_convolutions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="convolutions"):
        time_decisions(dyadic_image_actor(), image_walk(4))


def test_every_call_is_timed_against_the_baseline(actor: Actor) -> None:
    measured = time_decisions(actor, walk(300), ("event", "numpy"), {name: BASELINES[name] for name in ANNS}, rounds=2)
    timings = {timing.name: timing for timing in measured.timings}
    assert next(iter(timings)) == REFERENCE
    assert timings[REFERENCE].ratio == 1
    assert timings[REFERENCE].spread == (1, 1)
    assert timings[REFERENCE].p99_ratio == 1
    assert timings.keys() >= {*ANNS, f"{SIGMA_DELTA}, event", f"{SIGMA_DELTA}, numpy", "IF T=8, calibration I=1, event"}
    assert all(0 < timing.median <= timing.p99 for timing in timings.values())
    assert {overhead.name for overhead in measured.overheads} == {SIGMA_DELTA, "MT differential T=4", "IF T=8"}
    assert all(0 < overhead.kernel < overhead.act for overhead in measured.overheads)


def test_who_cannot_take_part_is_named_with_the_reason() -> None:
    def build(*_: object) -> None:
        raise LeftOut("its licence has expired")

    actor = random_actor(activation=Activation("tanh"), widths=(8,))
    baselines = {"the other": build, "graph": BASELINES[GRAPHS[2]]}
    measured = time_decisions(actor, walk(300), ("event",), baselines, rounds=1)  # pyright: ignore[reportArgumentType]
    assert "the other: left out: its licence has expired" in measured.notes
    assert "graph: left out: IF neurons stand for ReLU and QCFS only" in measured.notes
    assert [timing.name for timing in measured.timings] == [REFERENCE, f"{SIGMA_DELTA}, event"]


def test_an_engine_that_cannot_run_the_network_is_left_out() -> None:
    whole = Conv2d(np.full((2, *IMAGE), 1 / 64, np.float32), np.zeros(2, np.float32), IMAGE)
    policy = convert(Actor((whole,), make_head("clip", 2), IMAGE), image_walk(20), engine="numpy")
    with pytest.raises(LeftOut, match="last layer must be linear"):
        on_engine(policy, "event")


@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graphs_decide_like_the_policy(name: str, actor: Actor, converted: dict[str, SpikingPolicy]) -> None:
    act, variant = BASELINES[name](actor, converted, walk(300)), name.rpartition(", ")[0]
    policy = SpikingPolicy(converted[variant].network, engine="numpy")
    differences = [abs(act(obs) - policy.act(obs)).max() for obs in walk(20, seed=1)]
    assert np.median(differences) < 1e-5  # a spike may fall on the other side of its threshold


def test_a_slow_call_decides_less_often() -> None:
    import time

    quick, slow = take_turns({"quick": abs, "slow": lambda _: time.sleep(0.02)}, recorded_stream(walk(10)), "quick",
                             rounds=10)  # fmt: skip
    assert quick.decisions == 10 * BURST
    assert slow.decisions == 10 * LEAST_BURST
    assert slow.ratio > 100


def test_every_call_sees_consecutive_observations() -> None:
    import time

    seen: dict[str, list[int]] = {"quick": [], "slow": []}

    def slow(obs: np.ndarray) -> None:
        seen["slow"].append(int(obs[0]))
        time.sleep(0.005)

    recorded = np.arange(10_000, dtype=np.float32)[:, None]
    take_turns({"quick": lambda obs: seen["quick"].append(int(obs[0])), "slow": slow}, recorded_stream(recorded),
               "quick", rounds=3)  # fmt: skip
    assert all(places == list(range(len(places))) for places in seen.values())


def test_rows_of_a_batch_are_consecutive_in_time() -> None:
    recorded = np.arange(12, dtype=np.float32)[:, None]
    stream = recorded_stream(recorded, 4)
    assert stream(0)[:, 0].tolist() == [0, 3, 6, 9]
    assert stream(1)[:, 0].tolist() == [1, 4, 7, 10]
    assert stream(5)[:, 0].tolist() == [5, 8, 11, 2]
