"""Checkpoints of Tianshou, d3rlpy and CleanRL: trunk, head and critics by these libraries' names."""

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


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def under(folder: str, arrays: Arrays) -> Arrays:
    return {f"{folder}.{key}": value for key, value in arrays.items()}


def agrees(actor: Actor, arrays: Arrays, names: list[str], squash: Any = np.tanh) -> None:
    assert np.allclose(actor.act(OBS), squash(forward(arrays, names, relu, OBS)), atol=1e-5)


def tianshou(head: str, *hidden: int) -> Arrays:
    return chain("preprocess.model.model.", 8, 16, 16) | chain(f"{head}.model.", 16, *hidden, 3)


TRUNK = ["preprocess.model.model.0", "preprocess.model.model.2"]
CRITIC = chain("preprocess.model.model.", 11, 16) | chain("last.model.", 16, 1)
ACTORS = {
    "deterministic": (tianshou("last"), ["last.model.0"]),
    "gaussian": (tianshou("mu") | {"sigma_param": torch.zeros(3, 1)}, ["mu.model.0"]),
    "gaussian of two heads": (tianshou("mu") | chain("sigma.model.", 16, 3), ["mu.model.0"]),
    "a head of two layers": (tianshou("last", 12), ["last.model.0", "last.model.2"]),
}


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("beside", ["", "critics", "older copies"])
@pytest.mark.parametrize("prefix", [None, "actor"])
def test_tianshous_actor_is_its_preprocessing_and_its_head(name: str, beside: str, prefix: str | None) -> None:
    actor, head = ACTORS[name]
    whole = under("actor", actor)
    whole |= under("critic", CRITIC) | under("critic2", CRITIC) if beside else {}
    whole |= under("actor_old", {key: value + 1 for key, value in actor.items()}) if beside == "older copies" else {}
    whole |= under("critic_old", CRITIC) if beside == "older copies" else {}
    with warnings.catch_warnings(action="error"):
        agrees(load_actor(whole, activation="relu,tanh", prefix=prefix), actor, TRUNK + head)
    with pytest.warns(UserWarning, match=r"Tianshou's actors end in max_action·tanh.*activation="):
        agrees(load_actor(whole, activation="relu", prefix=prefix), actor, TRUNK + head, lambda x: x)


D3RLPY: dict[str, tuple[str, Arrays, str]] = {
    "TD3+BC, version 1": ("_policy", chain("_encoder._fcs.", 8, 16, 16, step=1) | linear("_fc", 16, 3), "_q_func"),
    "TD3+BC, version 2": ("policy", chain("_encoder._layers.", 8, 16, 16) | linear("_fc", 16, 3), "q_funcs"),
    "SAC, version 2": ("policy", chain("_encoder._layers.", 8, 16, 16) | linear("_mu", 16, 3)
                       | linear("_logstd", 16, 3), "q_funcs"),
}  # fmt: skip


@pytest.mark.parametrize("name", D3RLPY)
def test_d3rlpys_policy_is_its_encoder_and_its_head(name: str, tmp_path: Path) -> None:
    folder, policy, q = D3RLPY[name]
    critics = under("0", chain("_encoder._layers.", 11, 16) | linear("_fc", 16, 1))
    moments = {"state": {0: {"exp_avg": torch.zeros(16, 8)}}}
    torch.save({folder: policy, f"targ_{folder}": policy, q: critics, f"targ_{q}": critics, "actor_optim": moments},
               tmp_path / "model.pt")  # fmt: skip
    names = [key.removesuffix(".weight") for key in policy if key.endswith("weight") and "logstd" not in key]
    with warnings.catch_warnings(action="error"):
        agrees(load_actor(tmp_path / "model.pt", activation="relu,tanh"), policy, names)
    with pytest.warns(UserWarning, match="d3rlpy's policies end in a tanh"):
        load_actor(tmp_path / "model.pt", activation="relu")


ACTOR = chain("fc", 8, 16, 16, step=1, first=1) | linear("fc_mu", 16, 3)
SCALES = {"action_scale": torch.full((1, 3), 2.0), "action_bias": torch.full((1, 3), 0.5)}
QF = chain("fc", 11, 16, 16, 1, step=1, first=1)


@pytest.mark.parametrize("parts", [(ACTOR | SCALES, QF, QF), (ACTOR | SCALES, QF), [QF, ACTOR | SCALES]])
def test_of_cleanrls_tuple_the_actor_is_read_with_its_scaled_tanh(parts: Any, tmp_path: Path) -> None:
    torch.save(parts, tmp_path / "td3.cleanrl_model")
    torch.save(parts, tmp_path / "td3.pt")
    for path in tmp_path.iterdir():
        agrees(load_actor(path, activation="relu"), ACTOR, ["fc1", "fc2", "fc_mu"], lambda x: np.tanh(x) * 2 + 0.5)


@pytest.mark.parametrize(
    "other",
    [chain("fc", 12, 16, 1, step=1, first=1), chain("fc", 11, 16, 2, step=1, first=1), ACTOR,
     chain("fc", 8, 16, 16, step=1)],
)  # fmt: skip
def test_a_network_that_is_no_critic_by_its_sizes_leaves_the_choice_to_the_user(other: Arrays, tmp_path: Path) -> None:
    torch.save((ACTOR, other), tmp_path / "pair.pt")
    with pytest.raises(SourceError, match=r"several networks fit: 0\.fc .*prefix="):
        load_actor(tmp_path / "pair.pt", activation="relu")
    agrees(load_actor(tmp_path / "pair.pt", activation="relu", prefix="0"), ACTOR, ["fc1", "fc2", "fc_mu"], lambda x: x)


@pytest.mark.parametrize("name", ["actor", "policy.actor", "net"])
def test_an_older_copy_is_left_out_only_beside_what_it_is_a_copy_of(name: str) -> None:
    own, old = chain(f"{name}.", 8, 16, 3), f"{name.replace('policy', 'policy_old')}"
    old = old if old != name else f"{name}_old"
    agrees(
        load_actor(own | chain(f"{old}.", 8, 16, 3), activation="relu"), own, [f"{name}.0", f"{name}.2"], lambda x: x
    )
    alone = chain(f"{old}.", 8, 16, 3)
    agrees(load_actor(alone, activation="relu"), alone, [f"{old}.0", f"{old}.2"], lambda x: x)
    with pytest.raises((SourceError, UnsupportedLayerError)):
        load_actor(own | chain(f"{old}.", 8, 12, 3), activation="relu")


@pytest.mark.parametrize("trunk", ["encoder.actor_encoder.net.mlp", "encoder.encoder.net.mlp"])
@pytest.mark.parametrize("width", [3, 4, 6])
def test_rllibs_head_which_may_give_spreads_or_choices_too_is_refused_with_the_module(trunk: str, width: int) -> None:
    arrays = chain(f"{trunk}.", 8, 16, 16) | chain("pi.net.mlp.", 16, width) | chain("vf.net.mlp.", 16, 1)
    with pytest.raises(SourceError, match=r"gives as many values as pi\.net\.mlp takes.*pass the module$"):
        load_actor(arrays, activation="relu")
