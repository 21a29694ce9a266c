"""`bench`: the ANN it compares with is the actor, and its ratios are to that ANN."""

import numpy as np
import onnxruntime
import pytest

from snn_policy.activations import Activation
from snn_policy.ann_onnx import actor_onnx
from snn_policy.bench import BASELINE, time_decisions
from snn_policy.layers import Normaliser
from tests.actors import ALL_ACTIVATIONS, HEAD_KINDS, random_actor, walk

EXPORTED = [each for each in ALL_ACTIVATIONS if each.name != "qcfs"]


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", EXPORTED, ids=lambda a: a.name)
def test_the_onnx_graph_is_the_actor(activation: Activation, kind: str) -> None:
    actor = random_actor(activation=activation, kind=kind)  # pyright: ignore[reportArgumentType]
    shape = actor.observation_shape
    actor.normaliser = Normaliser(np.full(shape, 0.5, np.float32), np.full(shape, 2, np.float32), 3.0)
    observations = 3 * walk(50, shape)
    session = onnxruntime.InferenceSession(actor_onnx(actor), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"obs": observations})
    assert np.allclose(np.asarray(actions), actor.act(observations), atol=1e-5)


def test_a_quantised_actor_has_no_graph() -> None:
    with pytest.raises(ValueError, match="qcfs"):
        actor_onnx(random_actor(activation=Activation("qcfs", 1.0, 4)))


def test_every_contestant_is_timed_against_the_baseline() -> None:
    actor = random_actor(widths=(24, 20))
    measured = time_decisions(actor, walk(300, actor.observation_shape), ("event", "numpy"))
    timings = {each.name: each for each in measured}
    assert timings[BASELINE].ratio == 1
    assert timings[BASELINE].spread == (1, 1)
    assert {"sigma-delta 0.02", "sigma-delta 0.02, numpy", "IF T=8, calibration I=1"} <= timings.keys()
    assert all(0 < each.median <= each.p99 for each in timings.values())
