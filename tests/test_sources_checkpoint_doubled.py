"""Heads of checkpoints with two values for every action are refused where anything says how many actions there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import UnsupportedLayerError, load_actor
from tests.test_sources_checkpoints import chain, linear

torch.manual_seed(0)
DOUBLED = chain("actor.", 8, 16, 6)
SAYING: dict[str, Any] = {
    "actor_logstd": torch.zeros(1, 3),
    "log_std": torch.zeros(3),
    "distribution.std_param": torch.ones(3),
    "action_scale": torch.ones(3),
    "action_dim": 3,
    "config": {"num_actions": 3},
    "act_dim": np.int64(3),
    "n_actions": torch.tensor(3),
    "action_shape": (3,),
}


@pytest.mark.parametrize("name", SAYING)
def test_what_a_checkpoint_says_of_its_actions_shows_a_doubled_head(name: str, tmp_path: Path) -> None:
    torch.save({"model": DOUBLED, name: SAYING[name]}, tmp_path / "policy.pt")
    told = r"actor\.2 \(Linear\).* gives 6 values for the 3 actions of .*means and spreads.* returns the means alone"
    with pytest.raises(UnsupportedLayerError, match=told) as caught:
        load_actor(tmp_path / "policy.pt", activation="relu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bounds", [{"low": [-1] * 3}, {"high": np.ones(3)}, {"low": [-1] * 3, "high": [1] * 3}])
def test_bounds_of_half_as_many_actions_show_it_too(bounds: dict[str, Any]) -> None:
    for arrays in (DOUBLED, chain("network.", 8, 16) | linear("head", 16, 6)):
        with pytest.raises(UnsupportedLayerError, match=r"6 values for the 3 actions of (low|high)="):
            load_actor(arrays, activation="relu", **bounds)
    pendulum = chain("actor.", 3, 16, 2)
    with pytest.raises(UnsupportedLayerError, match=r"2 values for the 1 action of low="):
        load_actor(pendulum, activation="relu", low=[-2], high=[2])


@pytest.mark.parametrize(
    "beside",
    [{}, {"log_std": torch.zeros(6)}, {"log_std": torch.zeros(3), "action_dim": 6}, {"critic.log_std": torch.zeros(3)},
     {"log_std": torch.zeros(1)}, {"obs_dim": 3}, {"action_dim": True}, {"action_dim": "3"}],
)  # fmt: skip
def test_a_head_whose_width_is_said_or_that_nothing_contradicts_is_read(beside: dict[str, Any]) -> None:
    bounds: tuple[dict[str, Any], ...] = ({}, {"low": -1, "high": 1}, {"low": [-1] * 6, "high": [1] * 6})
    for given in bounds:
        assert load_actor({"model": DOUBLED, **beside}, activation="relu", **given).head.outputs == 6


def test_a_head_whose_name_says_it_is_split_as_before() -> None:
    arrays = chain("encoder.mlp_head.", 8, 16) | linear("action_parameterization.distribution_linear", 16, 6)
    with pytest.warns(UserWarning, match="its first half, the means"):
        assert load_actor(arrays, activation="elu", low=[-1] * 3, high=[1] * 3).head.outputs == 3
