"""Checkpoints of a trunk and heads: the policy's head is read by its name, or the trunk is not taken for the whole."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import SourceError, UnsupportedLayerError, load_actor
from snn_policy.actor import Actor
from tests.test_sources_checkpoints import Arrays, chain, forward, linear

torch.manual_seed(0)
OBS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
TRUNK = chain("network.", 8, 16, 16)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def agrees(actor: Actor, arrays: Arrays, *names: str) -> None:
    assert np.allclose(actor.act(OBS), forward(arrays, [*names], relu, OBS), atol=1e-5)


@pytest.mark.parametrize("head", ["actor", "actor_mean", "mu", "mean", "policy_head", "pi", "fc_mu", "action_out"])
@pytest.mark.parametrize("prefix", [None, "network"])
def test_a_trunk_and_the_head_that_is_named_like_an_action_are_the_policy(head: str, prefix: str | None) -> None:
    arrays = TRUNK | linear(head, 16, 3) | linear("critic", 16, 1)
    agrees(load_actor(arrays, activation="relu", prefix=prefix), arrays, "network.0", "network.2", head)


@pytest.mark.parametrize(("trunk", "head"), [("network", "actor"), ("shared.body", "shared.mean"), ("net", "pi.out")])
def test_a_head_that_is_a_sequence_of_one_layer_is_read_too(trunk: str, head: str, tmp_path: Path) -> None:
    arrays = chain(f"{trunk}.", 8, 16, 16) | chain(f"{head}.", 16, 3) | chain("critic.", 16, 1)
    torch.save({"model": arrays}, tmp_path / "policy.pt")
    agrees(load_actor(tmp_path / "policy.pt", activation="relu"), arrays, f"{trunk}.0", f"{trunk}.2", f"{head}.0")


@pytest.mark.parametrize(
    "beside",
    [linear("final", 16, 3), linear("actor", 16, 3) | linear("policy_head", 16, 3), linear("stem", 4, 8),
     linear("between", 16, 16) | linear("mu", 16, 3),
     {"mixing.kernel": torch.zeros(16, 3)}],
)  # fmt: skip
def test_a_prefix_that_leaves_out_a_head_or_an_encoder_is_never_suggested(beside: Arrays) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"nothing was read from.*load_state_dict, and pass the module$"):
        load_actor(TRUNK | beside, activation="relu")


@pytest.mark.parametrize("sizes", [(16, 16, 3), (16, 8, 3), (16, 12, 12, 3)])
def test_networks_of_several_layers_that_feed_each_other_are_not_offered_one_by_one(sizes: tuple[int, ...]) -> None:
    told = r"network gives as many values as actor takes.*load_state_dict, and pass the module$"
    with pytest.raises(SourceError, match=told) as caught:
        load_actor(TRUNK | chain("actor.", *sizes), activation="relu")
    assert "prefix=" not in str(caught.value)


@pytest.mark.parametrize("other", ["critic.out", "value.head", "q_net.output"])
def test_a_critics_layer_is_not_the_policys_head(other: str) -> None:
    arrays = TRUNK | linear(other, 16, 1) | linear("actor", 16, 3)
    agrees(load_actor(arrays, activation="relu"), arrays, "network.0", "network.2", "actor")


@pytest.mark.parametrize("other", ["decoder.out", "reconstruction.head", "target.mu"])
def test_a_layer_of_another_network_is_not_the_policys_head(other: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=rf"nothing was read from {re.escape(other)}\.weight"):
        load_actor(chain("actor.", 8, 16, 3) | linear(other, 3, 5), activation="relu")


@pytest.mark.parametrize("head", [linear("final", 16, 3), chain("actor.", 16, 16, 3), linear("decoder.out", 16, 3)])
def test_a_prefix_of_the_users_that_leaves_out_a_head_is_told(head: Arrays) -> None:
    with pytest.warns(UserWarning, match=r"prefix='network' leaves out .*takes the 16 values.*pass the module"):
        load_actor(TRUNK | head | linear("critic", 16, 1), activation="relu", prefix="network")


def test_many_networks_are_refused_in_a_short_line_and_equal_ones_by_a_prefix() -> None:
    many = {key: value for index in range(40) for key, value in chain(f"net_{index}_.", 8, 3).items()}
    with pytest.raises(SourceError, match=r"net_11 \(8 → 3\) and 28 more; pass prefix="):
        load_actor(many, activation="relu")
    with pytest.raises(SourceError, match=r"actor \(8 → 8 → 8\), estimator \(8 → 8 → 8\); pass prefix="):
        load_actor(chain("actor.", 8, 8, 8) | chain("estimator.", 8, 8, 8), activation="relu")


def test_a_network_without_a_prefix_gets_no_suggestion_of_one() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"scale_x \(8,\).*pass the module$"):
        load_actor(chain("", 8, 16, 3) | {"scale_x": torch.ones(8)}, activation="relu")


COPIES = ("actor_old", "actor_target", "actor2", "actors", "actor_backup")


@pytest.mark.parametrize("other", COPIES)
@pytest.mark.parametrize("above", ["", "agent."])
def test_a_prefix_is_a_whole_word(other: str, above: str) -> None:
    arrays = chain(f"{above}actor.", 8, 16, 3)
    agrees(load_actor(arrays | chain(f"{above}{other}.", 8, 16, 3), activation="relu", prefix=f"{above}actor"),
           arrays, f"{above}actor.0", f"{above}actor.2")  # fmt: skip
    headed = {
        name: chain(f"{above}{name}.", 8, 16, 16) | linear(f"{above}{name}.mu", 16, 3) for name in (other, "actor")
    }
    for name, own in headed.items():
        actor = load_actor(headed["actor"] | headed[other], activation="relu", prefix=f"{above}{name}")
        agrees(actor, own, f"{above}{name}.0", f"{above}{name}.2", f"{above}{name}.mu")


@pytest.mark.parametrize("other", [*COPIES, "estimator"])
def test_statistics_and_heads_of_a_network_called_alike_are_not_the_policys(other: str) -> None:
    arrays = chain("actor.", 8, 16, 3)
    theirs = chain(f"{other}.", 8, 3) | linear(f"{other}.mu", 3, 3)
    theirs |= {f"{other}.obs_normalizer.mean": torch.full((8,), 5.0), f"{other}.obs_normalizer.var": torch.ones(8)}
    with warnings.catch_warnings(action="ignore"):
        agrees(load_actor(arrays | theirs, activation="relu", prefix="actor"), arrays, "actor.0", "actor.2")
    own = {"actor.obs_normalizer.mean": torch.ones(8), "actor.obs_normalizer.var": torch.ones(8)}
    actor = load_actor(chain("actor.", 8, 3) | own | chain(f"{other}.", 8, 3), activation="relu", prefix="actor")
    assert actor.normaliser is not None
    assert np.allclose(actor.normaliser.mean, 1)


@pytest.mark.parametrize("name", ["actor_scale", "actor_norm.weight", "actor.encoder.weight"])
def test_what_is_called_after_the_prefix_and_is_no_network_is_still_missed(name: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=rf"nothing was read from {name}"):
        load_actor(chain("actor.", 8, 16, 3) | {name: torch.ones(8)}, activation="relu", prefix="actor")


def test_numbered_layers_keep_what_is_called_like_them() -> None:
    arrays = chain("fc", 8, 16, 16, step=1, first=1) | linear("fc_mean", 16, 3)
    agrees(load_actor(arrays, activation="relu", prefix="fc"), arrays, "fc1", "fc2", "fc_mean")
    with pytest.raises(UnsupportedLayerError, match=r"nothing was read from fc_scale"):
        load_actor(arrays | {"fc_scale": torch.ones(3)}, activation="relu", prefix="fc")
