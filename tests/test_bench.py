"""`bench`: the ANN it compares with is the actor, its ratios are to that ANN, and every opponent decides alike."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Normaliser
from snn_policy.bench.contestants import BASELINE, MEMBRANE, OPPONENTS, SIGMA_DELTA, VARIANTS, LeftOut, on_engine
from snn_policy.bench.decisions import time_decisions
from snn_policy.bench.timing import BURST, LEAST_BURST, recorded_stream, take_turns
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

ANNS = ("ANN, NumPy", "ANN, Actor.act", "ANN, torch")
GRAPHS = tuple(name for name in OPPONENTS if name.endswith(".onnx"))


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
    if find_spec("torch"):
        from snn_policy.bench.torch_contestants import TorchPolicy, sequential

        policy = TorchPolicy(actor, sequential(actor))
        assert np.allclose([policy.act(obs) for obs in observations], actor.act(observations), atol=1e-5)


def test_the_onnx_graph_of_a_convolutional_actor_is_the_actor() -> None:
    actor, observations = dyadic_image_actor(), image_walk(20)
    session = onnxruntime.InferenceSession(actor_onnx(actor), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"obs": observations.astype(np.float32)})
    assert np.allclose(np.asarray(actions), actor.act(observations), atol=1e-5)


def test_a_quantised_actor_is_timed_with_the_neurons_that_stand_for_it() -> None:
    actor = random_actor(activation=Activation("qcfs", 1.0, 4), widths=(16, 12))
    opponents = {name: OPPONENTS[name] for name in (*ANNS, f"{MEMBRANE}, SpikingJelly")}
    measured = time_decisions(actor, walk(300), ("event",), opponents, rounds=1)
    names = [each.name for each in measured.timings]
    assert names[0] == BASELINE
    assert {f"{SIGMA_DELTA}, event", "IF T=4, event", "IF T=8, calibration I=1, event"} <= {*names}
    assert not any(name.startswith(("MT", "SNM")) for name in names)
    if find_spec("torch"):
        assert "ANN, torch" in names
        assert f"{MEMBRANE}, SpikingJelly: left out: its converter knows ReLU only" in measured.notes


def test_convolutions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="convolutions"):
        time_decisions(dyadic_image_actor(), image_walk(4))


def test_every_contestant_is_timed_against_the_baseline(actor: Actor) -> None:
    measured = time_decisions(actor, walk(300), ("event", "numpy"), {name: OPPONENTS[name] for name in ANNS}, rounds=2)
    timings = {each.name: each for each in measured.timings}
    assert next(iter(timings)) == BASELINE
    assert timings[BASELINE].ratio == 1
    assert timings[BASELINE].spread == (1, 1)
    assert timings[BASELINE].p99_ratio == 1
    assert timings.keys() >= {*ANNS, f"{SIGMA_DELTA}, event", f"{SIGMA_DELTA}, numpy", "IF T=8, calibration I=1, event"}
    assert all(0 < each.median <= each.p99 for each in timings.values())
    assert {each.name for each in measured.overheads} == {SIGMA_DELTA, "MT differential T=4", "IF T=8"}
    assert all(0 < each.kernel < each.act for each in measured.overheads)


def test_who_cannot_take_part_is_named_with_the_reason() -> None:
    def build(*_: object) -> None:
        raise LeftOut("its licence has expired")

    actor = random_actor(activation=Activation("tanh"), widths=(8,))
    opponents = {"the other": build, "loop": OPPONENTS[f"{MEMBRANE}, eager torch loop"]}
    measured = time_decisions(actor, walk(300), ("event",), opponents, rounds=1)  # pyright: ignore[reportArgumentType]
    assert "the other: left out: its licence has expired" in measured.notes
    assert [each.name for each in measured.timings] == [BASELINE, f"{SIGMA_DELTA}, event"]


def test_an_engine_that_cannot_run_the_network_is_left_out() -> None:
    whole = Conv2d(np.full((2, *IMAGE), 1 / 64, np.float32), np.zeros(2, np.float32), IMAGE)
    policy = convert(Actor((whole,), make_head("clip", 2), IMAGE), image_walk(20), engine="numpy")
    with pytest.raises(LeftOut, match="last layer must be linear"):
        on_engine(policy, "event")


@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graphs_decide_like_the_policy(name: str, actor: Actor, converted: dict[str, SpikingPolicy]) -> None:
    act, variant = OPPONENTS[name](actor, converted, walk(300)), name.rpartition(", ")[0]
    policy = SpikingPolicy(converted[variant].network, engine="numpy")
    differences = [abs(act(obs) - policy.act(obs)).max() for obs in walk(20, seed=1)]
    assert np.median(differences) < 1e-5  # a spike may fall on the other side of its threshold


def test_the_torch_loop_is_an_if_network_without_memory(actor: Actor) -> None:
    pytest.importorskip("torch")
    policy = convert(actor, walk(300), neuron=replace(VARIANTS[MEMBRANE], alpha=0.0), engine="numpy")
    loop = OPPONENTS[f"{MEMBRANE}, eager torch loop"](actor, {MEMBRANE: policy}, walk(300))
    differences = [abs(loop(obs) - policy.act(obs)).max() for obs in walk(50, seed=1)]
    assert np.median(differences) < 1e-5
    assert np.quantile(differences, 0.9) < 0.1


def test_spikingjelly_approximates_the_actor(actor: Actor, converted: dict[str, SpikingPolicy]) -> None:
    pytest.importorskip("spikingjelly")
    act = OPPONENTS[f"{MEMBRANE}, SpikingJelly"](actor, converted, walk(300))
    differences = [abs(act(obs) - actor.act(obs)).mean() for obs in walk(50)]
    assert np.mean(differences) < 0.3 * np.mean(actor.high - actor.low)


def test_a_slow_contestant_decides_less_often() -> None:
    import time

    quick, slow = take_turns({"quick": abs, "slow": lambda _: time.sleep(0.02)}, recorded_stream(walk(10)), "quick",
                             rounds=10)  # fmt: skip
    assert quick.decisions == 10 * BURST
    assert slow.decisions == 10 * LEAST_BURST
    assert slow.ratio > 100


def test_every_contestant_sees_consecutive_observations() -> None:
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
