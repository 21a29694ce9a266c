"""Which engine a name stands for, and what is said where it cannot be had."""

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.engines import make_engine
from snn_policy.engines.core.engine import EventEngine
from tests.actors import random_actor, walk

ACTOR = random_actor()


def test_auto_is_the_event_engine_for_linear_layers() -> None:
    assert isinstance(make_engine(convert(ACTOR, walk(60)).network, "auto"), EventEngine)


@pytest.mark.parametrize("name", ["fast", "event:cuda", "numpy:cpu", ""])
def test_an_unknown_name_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of auto, event, numpy, torch or torch:DEVICE"):
        convert(ACTOR, walk(60), engine=name)


def test_torch_takes_a_device() -> None:
    pytest.importorskip("torch")
    named, plain = (convert(ACTOR, walk(60), engine=engine) for engine in ("torch:cpu", "torch"))
    for obs in walk(5):
        assert np.array_equal(named.act(obs), plain.act(obs))
    assert SpikingPolicy(named.network, engine=named.engine).engine == "torch:cpu"


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nonsense", "cpu:x", "hpu", "privateuseone"])
def test_a_device_that_is_not_there_is_refused_by_name(device: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(
        ValueError, match=rf"engine 'torch:{device}': torch cannot use this device here \(.*take 'torch'"
    ):
        convert(ACTOR, walk(60), engine=f"torch:{device}")
