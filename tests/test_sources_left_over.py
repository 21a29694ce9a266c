"""Checkpoints: what lies beside the chain of layers that was found is read, known as something else, or refused."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from snn_policy import UnsupportedLayerError, load_actor

torch.manual_seed(0)
OBS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def mlp(inputs: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 3))


def normed(norm: Callable[[nn.Module], nn.Module], layer: int) -> nn.Module:
    """A network of three layers of which one is stored as something else than its weight."""
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    norm(net[layer])
    return nn.ModuleDict({"actor": net})


def parts(**given: Any) -> dict[str, Tensor]:
    """The state of a module made of these modules and buffers."""
    module = nn.Module()
    for name, part in given.items():
        module.register_buffer(name, part) if isinstance(part, Tensor) else module.add_module(name, part)
    return dict(module.state_dict())


POLICIES: dict[str, dict[str, Tensor]] = {
    "weight_norm, middle": normed(nn.utils.parametrizations.weight_norm, 2).state_dict(),
    "weight_norm, last": normed(nn.utils.parametrizations.weight_norm, 4).state_dict(),
    "spectral_norm, first": normed(nn.utils.parametrizations.spectral_norm, 0).state_dict(),
    "pruned": normed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5), 2).state_dict(),
    "an encoder of the same width": parts(encoder=nn.Linear(8, 8), net=mlp()),
    "an encoder of another width": parts(encoder=nn.Linear(5, 8), net=mlp()),
    "a LayerNorm in front": parts(input_norm=nn.LayerNorm(8), net=mlp()),
    "a BatchNorm in front": parts(input_norm=nn.BatchNorm1d(8), net=mlp()),
    "statistics in two buffers": parts(net=mlp(), obs_mean=torch.ones(8), obs_std=torch.full((8,), 3.0)),
    "statistics by other names": parts(net=mlp(), normalizer_shift=torch.ones(8), normalizer_scale=torch.ones(8)),
    "a scale of the action": parts(net=mlp(), action_scale=torch.full((3,), 3.0)),
    "a scale of one number": parts(net=mlp(), max_action=torch.tensor(2.0)),
    "a skip connection": parts(net=mlp(), skip=nn.Linear(8, 3)),
    "PReLU": parts(fc1=nn.Linear(8, 16), act=nn.PReLU(), fc2=nn.Linear(16, 3)),
    "a convolution in front": parts(net=mlp(), conv=nn.Conv1d(1, 2, 5)),
    "attention in front": parts(net=mlp(), attn=nn.MultiheadAttention(8, 2)),
    "an encoder of the goal": parts(target_encoder=nn.Linear(4, 8), net=mlp()),
    "statistics of joints": parts(net=mlp(), q_mean=torch.ones(4), v_mean=torch.ones(4)),
    "a scaler of the observation": parts(net=mlp(), obs_scaler_mean=torch.ones(8), obs_scaler_scale=torch.ones(8)),
    "an embedding of the wanted return": parts(return_embed=nn.Linear(1, 8), net=mlp()),
    "two heads": parts(fc1=nn.Linear(8, 16), fc2=nn.Linear(16, 16), value=nn.Linear(16, 1), advantage=nn.Linear(16, 4)),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("where", ["as it is", "in a dictionary", "safetensors"])
@pytest.mark.filterwarnings("ignore:.*the file does not say how they are used")
def test_arrays_that_may_be_the_policys_are_refused_by_name(name: str, where: str, tmp_path: Path) -> None:
    state = {key: value.clone().contiguous() for key, value in POLICIES[name].items()}
    path = tmp_path / ("policy.safetensors" if where == "safetensors" else "policy.pt")
    if where == "safetensors":
        from safetensors.torch import save_file

        save_file(state, str(path))
    else:
        torch.save(state if where == "as it is" else {"iter": 7, "model": state}, path)
    with pytest.raises(UnsupportedLayerError, match=r"nothing was read from .*load_state_dict, and pass the module"):
        load_actor(path, activation="relu")


def test_a_bare_array_beside_the_dictionary_of_weights_counts_if_its_name_says_so() -> None:
    model = {f"actor.{key}": value for key, value in mlp().state_dict().items()}
    with pytest.raises(UnsupportedLayerError, match=r"nothing was read from obs_mean \(8,\)"):
        load_actor({"model": model, "obs_mean": np.zeros(8), "obs_var": np.ones(8)}, activation="relu")
    load_actor({"model": model, "seen": np.zeros(8)}, activation="relu")


BESIDE: dict[str, dict[str, Any]] = {
    "a critic": {f"critic.{key}": value for key, value in mlp().state_dict().items()},
    "targets": {"actor_target.0.weight": torch.zeros(16, 8), "q_targ.0.weight": torch.zeros(1, 11)},
    "spreads": {"log_std": torch.zeros(3), "sigma_head.weight": torch.zeros(3, 16), "fc_logvar.bias": torch.zeros(3)},
    "counters": {"count": torch.tensor(3), "obs.num_batches_tracked": torch.tensor(2), "global_step": np.int64(9)},
    "an optimiser": {"optimizer.state.0.exp_avg": torch.zeros(16, 8), "optim.step": torch.tensor(1.0)},
    "the entropy's weight": {"log_alpha": torch.zeros(1), "alpha": torch.tensor(0.2), "log_ent_coef": torch.zeros(1)},
    "generators": {"rng_state": torch.zeros(5056, dtype=torch.uint8), "ret_rms.mean": torch.zeros(())},
    "an optimiser by another name": {"actor_opt.0.square_avg": torch.zeros(16, 8), "opt_state.0.mu": torch.zeros(16)},
    "a value network by another name": {"baseline.weight": torch.zeros(1, 8), "qnet.bias": torch.zeros(1)},
    "of the environment": {"env_state.command_scale": torch.ones(3), "curriculum.weights": torch.ones(9)},
    "of the training": {"lr": torch.tensor(1e-3), "val_loss": torch.tensor(0.1), "empty": torch.zeros(0)},
    "a mixed precision's scaler": {"scaler.scale": torch.tensor(65536.0), "rew_rms.var": torch.ones(())},
    "curiosity": {"rnd.predictor.0.weight": torch.zeros(4, 8), "disc.0.weight": torch.zeros(1, 8)},
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_something_else_by_its_name_stands_beside_a_policy(name: str) -> None:
    net = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actor = load_actor({f"actor.{key}": value for key, value in net.state_dict().items()} | BESIDE[name],
                           activation="relu")  # fmt: skip
    assert np.allclose(actor.act(OBS), net(torch.from_numpy(OBS)).detach().numpy(), atol=1e-6)


def test_with_a_prefix_what_lies_elsewhere_is_none_of_the_policys() -> None:
    state = POLICIES["a skip connection"]
    assert load_actor(state, activation="relu", prefix="net").observation_shape == (8,)
    with pytest.raises(UnsupportedLayerError, match=r"prefix='net'"):
        load_actor(state, activation="relu")
    with pytest.raises(UnsupportedLayerError, match=r"actor\.2\.bias"):
        load_actor(POLICIES["weight_norm, middle"], activation="relu", prefix="actor")


def test_statistics_and_bounds_that_the_user_gives_are_not_missed() -> None:
    state = POLICIES["statistics in two buffers"]
    actor = load_actor(state, activation="relu", normaliser=(np.ones(8), np.full(8, 9.0)))
    assert actor.normaliser is not None
    bounds = parts(net=mlp(), action_low=torch.full((3,), -2.0), action_high=torch.full((3,), 2.0))
    with pytest.raises(UnsupportedLayerError, match="action_low"):
        load_actor(bounds, activation="relu")
    assert load_actor(bounds, activation="relu", low=[-2] * 3, high=[2] * 3).head.outputs == 3


@pytest.mark.parametrize(
    ("names", "told"),
    [(("rms.mean", "rms.var"), "ε 1e-08 and a clip to ±10"), (("norm.running_mean", "norm.running_var"), "clip to ±5"),
     (("mean", "var"), "as in safe-control-gym"),
     (("obs.running_mean_std.running_mean", "obs.running_mean_std.running_var"), None),
     (("obs_normalizer.mean", "obs_normalizer.var"), None)],
)  # fmt: skip
def test_whose_rule_statistics_are_used_by_is_told_where_no_name_says_it(
    names: tuple[str, str], told: str | None
) -> None:
    state = {f"actor.{key}": value for key, value in mlp().state_dict().items()}
    state |= {names[0]: torch.zeros(8), names[1]: torch.ones(8)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_actor(state, activation="relu")
    said = [str(warning.message) for warning in caught if "does not say how they are used" in str(warning.message)]
    assert [told in line for line in said if told] == ([] if told is None else [True])


def test_a_message_names_some_of_many() -> None:
    state = parts(net=mlp(), **{f"part_{letter}": torch.ones(2) for letter in "abcdef"})
    with pytest.raises(UnsupportedLayerError, match=r"part_d \(2,\) and 2 more"):
        load_actor(state, activation="relu")


@pytest.mark.parametrize(
    "folder", ["rnd_state_dict.state_normalizer", "teacher_obs_normalizer", "assymetric_vf.vf.norm"]
)
@pytest.mark.parametrize("names", [("_mean", "_std"), ("running_mean", "running_var")])
def test_statistics_of_another_network_do_not_normalise_the_policy(folder: str, names: tuple[str, str]) -> None:
    net = mlp()
    state = {f"actor.{key}": value for key, value in net.state_dict().items()}
    state |= {f"{folder}.{names[0]}": torch.full((8,), 5.0), f"{folder}.{names[1]}": torch.full((8,), 2.0)}
    try:
        actor = load_actor(state, activation="relu")
    except UnsupportedLayerError:
        return
    assert np.allclose(actor.act(OBS), net(torch.from_numpy(OBS)).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("home", ["ema_policy", "privileged_actor", "q_net", "teacher"])
def test_a_network_of_such_a_name_loses_nothing_of_that_name(home: str) -> None:
    state = {f"{home}.net.{key}": value for key, value in mlp().state_dict().items()}
    state[f"{home}.encoder.weight"] = torch.eye(8)
    with pytest.raises(UnsupportedLayerError, match=r"encoder\.weight \(8, 8\)"):
        load_actor(state, activation="relu", prefix=home)


class Moments:
    """As Gymnasium's and Stable-Baselines3's running statistics."""

    mean, var, count = np.zeros(8), np.ones(8), 1.0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("obs_rms", Moments(), r"obs_rms \(Moments\) is not applied.*normaliser="), ("obs_mean", [0.0] * 8, "normaliser="),
     ("action_scale", 0.25, "low= and high="), ("max_action", np.float32(2), "low= and high="),
     ("normalizer", Moments(), "normaliser="),
     ("action_scale", None, None), ("epoch", 7, None), ("obs_norm", True, None), ("action_names", ["hip"], None)],
)  # fmt: skip
def test_bare_numbers_and_objects_that_a_policy_may_apply_are_told(name: str, value: Any, told: str | None) -> None:
    model = {f"actor.{key}": array for key, array in mlp().state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_actor({"model": model, name: value}, activation="relu")
        load_actor({"model": model, name: value}, activation="relu", normaliser=False, low=[-1] * 3, high=[1] * 3)
    said = [str(warning.message) for warning in caught]
    assert len(said) == (told is not None)
    assert told is None or re.search(told, said[0])
