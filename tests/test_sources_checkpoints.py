"""Weights without their network: what libraries save is told from names and shapes, or refused by what it is."""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor

RNG = np.random.default_rng(0)
SIZE, ACTIONS = 9, 3
Arrays = dict[str, torch.Tensor]


def linear(name: str, inputs: int, outputs: int) -> Arrays:
    return {f"{name}.weight": torch.randn(outputs, inputs) * 0.5, f"{name}.bias": torch.randn(outputs)}


def chain(prefix: str, *sizes: int, step: int = 2, first: int = 0) -> Arrays:
    found: Arrays = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        found |= linear(f"{prefix}{first + step * index}", inputs, outputs)
    return found


def forward(arrays: Arrays, names: list[str], f: Callable[[Any], Any], x: Any) -> Any:
    for name in names:
        x = x @ arrays[f"{name}.weight"].double().numpy().T + arrays[f"{name}.bias"].double().numpy()
        x = x if name == names[-1] else f(x)
    return x


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


OBS = RNG.standard_normal((30, SIZE)) * 2


def close(actor: Actor, expected: Any) -> None:
    assert actor.observation_shape == (SIZE,)
    assert np.abs(actor.step(OBS.astype(np.float32), ())[0] - expected).max() <= 1e-5 * np.abs(expected).max()


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def statistics(names: tuple[str, str], column: bool = False) -> Arrays:
    shape = (1, SIZE) if column else (SIZE,)
    return {names[0]: torch.randn(shape), names[1]: torch.rand(shape) + 0.5}


def test_rsl_rl_old_and_new(tmp_path: Path) -> None:
    arrays = chain("actor.", SIZE, 16, 12, 8, ACTIONS) | chain("critic.", 2 * SIZE, 16, 12, 8, 1)
    kept = statistics(("actor_obs_normalizer._mean", "actor_obs_normalizer._std"), column=True)
    other = {key.replace("actor", "critic"): value + 1 for key, value in kept.items()}
    more = {"std": torch.ones(ACTIONS), "actor_obs_normalizer.count": torch.tensor(3)}
    optimiser = {"state": {0: {"exp_avg": torch.zeros(16, SIZE)}}, "param_groups": [{"lr": 1e-3}]}
    whole = {"model_state_dict": OrderedDict(arrays | kept | other | more), "optimizer_state_dict": optimiser,
             "iter": 500, "infos": None}  # fmt: skip
    mean, std = (kept[f"actor_obs_normalizer.{key}"].double().numpy() for key in ("_mean", "_std"))
    names = [f"actor.{index}" for index in (0, 2, 4, 6)]
    actor = load_actor(saved(tmp_path / "model_500.pt", whole), activation="elu")
    close(actor, forward(arrays, names, elu, (OBS - mean) / (std + 0.01)))
    close(load_actor(tmp_path / "model_500.pt", activation="elu", normaliser=False), forward(arrays, names, elu, OBS))

    new = {key.replace("actor.", "mlp."): value for key, value in arrays.items() if key.startswith("actor")}
    new |= {key.replace("actor_obs", "obs"): value for key, value in kept.items()}
    critic = {f"mlp.{key.partition('.')[2]}": value for key, value in arrays.items() if key.startswith("critic")}
    whole = {"actor_state_dict": new | {"distribution.std_param": torch.ones(ACTIONS)}, "critic_state_dict": critic}
    actor = load_actor(saved(tmp_path / "new.pt", whole), activation="elu", low=-5, high=5)
    expected = forward(new, [f"mlp.{index}" for index in (0, 2, 4, 6)], elu, (OBS - mean) / (std + 0.01))
    close(actor, np.clip(expected, -5, 5))


def test_rl_games(tmp_path: Path) -> None:
    arrays = chain("a2c_network.actor_mlp.", SIZE, 16, 8) | linear("a2c_network.mu", 8, ACTIONS)
    arrays |= linear("a2c_network.value", 8, 1) | {"a2c_network.sigma": torch.zeros(ACTIONS)}
    kept = statistics(("running_mean_std.running_mean", "running_mean_std.running_var"))
    value = {"value_mean_std.running_mean": torch.zeros(1), "value_mean_std.running_var": torch.ones(1)}
    whole = {"model": arrays | kept | value, "epoch": 3, "last_mean_rewards": np.float64(5), "frame": np.int64(7)}
    actor = load_actor(saved(tmp_path / "Ant.pth", whole), activation="elu")
    mean, variance = (kept[f"running_mean_std.running_{key}"].double().numpy() for key in ("mean", "var"))
    x = np.clip((OBS - mean) / np.sqrt(variance + 1e-5), -5, 5)
    names = ["a2c_network.actor_mlp.0", "a2c_network.actor_mlp.2", "a2c_network.mu"]
    close(actor, forward(arrays, names, elu, x))


def test_booster_cleanrl_safe_control_gym_skrl_and_sb3(tmp_path: Path) -> None:
    booster = {
        "model": chain("actor.", SIZE, 8, ACTIONS) | chain("critic.", 12, 8, 1) | {"logstd": torch.zeros(ACTIONS)}
    }
    names = ["actor.0", "actor.2"]
    close(load_actor(saved(tmp_path / "b.pth", booster), activation="elu"), forward(booster["model"], names, elu, OBS))

    clean = chain("actor_mean.", SIZE, 8, 8, ACTIONS) | chain("critic.", SIZE, 8, 1)
    clean |= {"actor_logstd": torch.zeros(1, ACTIONS)}
    names = [f"actor_mean.{index}" for index in (0, 2, 4)]
    close(load_actor(saved(tmp_path / "c.pt", clean), activation="tanh"), forward(clean, names, np.tanh, OBS))

    gym = chain("actor.net.fcs.", SIZE, 8, 8, step=1) | linear("actor.mu_layer", 8, ACTIONS)
    gym |= linear("actor.log_std_layer", 8, ACTIONS) | chain("q1.q_net.fcs.", SIZE + ACTIONS, 8, 1, step=1)
    whole = {"agent": {"ac": gym, "log_alpha": np.float64(1)}, "obs_normalizer": {}}
    names = ["actor.net.fcs.0", "actor.net.fcs.1", "actor.mu_layer"]
    close(load_actor(saved(tmp_path / "s.pt", whole), activation=("tanh", "tanh")),
          np.tanh(forward(gym, names, np.tanh, OBS)))  # fmt: skip

    skrl = chain("net_container.", SIZE, 8, 8) | linear("policy_layer", 8, ACTIONS)
    kept = statistics(("running_mean", "running_variance"))
    whole = {"policy": skrl, "value": chain("net_container.", SIZE, 8, 8) | linear("value_layer", 8, 1),
             "state_preprocessor": kept}  # fmt: skip
    mean, variance = (kept[key].double().numpy() for key in ("running_mean", "running_variance"))
    x = np.clip((OBS - mean) / (np.sqrt(variance) + 1e-8), -5, 5)
    names = ["net_container.0", "net_container.2", "policy_layer"]
    close(load_actor(saved(tmp_path / "k.pt", whole), activation="elu"), forward(skrl, names, elu, x))

    plain = chain("mlp_extractor.policy_net.", SIZE, 8, 8) | chain("mlp_extractor.value_net.", SIZE, 8, 8)
    plain |= linear("action_net", 8, ACTIONS) | linear("value_net", 8, 1)
    names = ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net"]
    close(load_actor(plain, activation="tanh"), forward(plain, names, np.tanh, OBS))


def test_cleanrl_sac_keeps_its_scaled_tanh() -> None:
    arrays = chain("fc", SIZE, 8, 8, step=1, first=1) | linear("fc_mean", 8, ACTIONS) | linear("fc_logstd", 8, ACTIONS)
    arrays |= {"action_scale": torch.full((1, ACTIONS), 2.0), "action_bias": torch.full((1, ACTIONS), 0.5)}
    expected = np.tanh(forward(arrays, ["fc1", "fc2", "fc_mean"], lambda x: np.maximum(x, 0), OBS)) * 2 + 0.5
    actor = load_actor({key: value.numpy() for key, value in arrays.items()}, activation="relu")
    close(actor, expected)
    assert actor.head.kind == "tanh"


def test_sample_factory_multilayer_perceptron_and_brax() -> None:
    arrays = chain("encoder.encoders.obs.mlp_head.", SIZE, 8, 8) | linear("critic_linear", 8, 1)
    arrays |= linear("action_parameterization.distribution_linear", 8, 2 * ACTIONS)
    names = ["encoder.encoders.obs.mlp_head.0", "encoder.encoders.obs.mlp_head.2",
             "action_parameterization.distribution_linear"]  # fmt: skip
    with pytest.warns(UserWarning, match="the means"):
        actor = load_actor({"model": arrays}, activation="elu")
    close(actor, forward(arrays, names, elu, OBS)[:, :ACTIONS])

    brax = {f"hidden_{index}": {"kernel": RNG.standard_normal(shape), "bias": RNG.standard_normal(shape[1])}
            for index, shape in enumerate([(SIZE, 8), (8, 2 * ACTIONS)])}  # fmt: skip
    with pytest.warns(UserWarning, match="brax"):
        actor = load_actor({"params": brax}, activation="tanh")
    hidden = np.tanh(OBS @ brax["hidden_0"]["kernel"] + brax["hidden_0"]["bias"])
    close(actor, np.tanh(hidden @ brax["hidden_1"]["kernel"] + brax["hidden_1"]["bias"])[:, :ACTIONS])


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    arrays = chain("actor.", SIZE, 8, ACTIONS)
    save_file(arrays, str(tmp_path / "model.safetensors"))
    close(load_actor(tmp_path / "model.safetensors", activation="relu"),
          forward(arrays, ["actor.0", "actor.2"], lambda x: np.maximum(x, 0), OBS))  # fmt: skip
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        halved = {key: value.to(kind) for key, value in arrays.items()}
        actor = load_actor(saved(tmp_path / "h.pt", halved), activation="relu")
        assert np.array_equal(actor.layers[0].weight, halved["actor.0.weight"].float().numpy())


def test_an_activation_must_be_named_and_the_error_says_how(tmp_path: Path) -> None:
    path = saved(tmp_path / "p.pt", chain("actor.", SIZE, 8, ACTIONS))
    with pytest.raises(SourceError, match=r"actor\.0\.weight.*activation= \(relu, tanh, elu.*rl_games"):
        load_actor(path)
    with pytest.raises(SourceError, match=r"activation 'gulp': expected one of relu"):
        load_actor(path, activation="gulp")
    with pytest.raises(SourceError, match=r"expected one of relu.* or two"):
        load_actor(path, activation="elu,elu,elu")
    with pytest.raises(TypeError, match="output: a checkpoint does not take"):
        load_actor(path, activation="elu", output="x")


def test_several_networks_are_listed_and_a_prefix_chooses(tmp_path: Path) -> None:
    arrays = chain("actor.", SIZE, 8, ACTIONS) | chain("estimator.", SIZE, 8, 4)
    with pytest.raises(SourceError, match=r"actor \(9 → 8 → 3\), estimator \(9 → 8 → 4\); pass prefix="):
        load_actor(saved(tmp_path / "p.pt", arrays), activation="elu")
    close(load_actor(tmp_path / "p.pt", activation="elu", prefix="actor"),
          forward(arrays, ["actor.0", "actor.2"], elu, OBS))  # fmt: skip
    with pytest.raises(SourceError, match=r"under 'other'.*pass prefix="):
        load_actor(tmp_path / "p.pt", activation="elu", prefix="other")
    pair = saved(tmp_path / "pair.pt", (chain("fc", SIZE, 8, 2, step=1, first=1), chain("fc", 11, 8, 1, step=1)))
    with pytest.raises(SourceError, match=r"0\.fc \(9.*1\.fc \(11"):
        load_actor(pair, activation="relu")
    assert load_actor(pair, activation="relu", prefix="0").head.outputs == 2


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "gru": (lambda: chain("encoder.mlp_head.", SIZE, 8) | {"core.core.weight_ih_l0": torch.zeros(48, 8),
            "core.core.weight_hh_l0": torch.zeros(48, 16)}, r"core\.core \(GRU\).*recurrent"),
    "lstm": (lambda: chain("actor.", 16, 8, 3) | {"memory_a.rnn.weight_hh_l0": torch.zeros(64, 16)},
             r"memory_a\.rnn \(LSTM\).*recurrent"),
    "layer norm": (lambda: chain("actor.", SIZE, 8, 3, step=3) | {"actor.1.weight": torch.ones(8),
                   "actor.1.bias": torch.ones(8)}, r"actor\.1 \(LayerNorm\)"),
    "convolution": (lambda: chain("actor.", 8, 3, first=2) | {"actor.0.weight": torch.zeros(4, 3, 5, 5)},
                    r"actor\.0 \(Conv2d\).*stride"),
    "no chain": (lambda: chain("actor.", SIZE, 8, 3) | linear("actor.4", 5, 2),
                 r"actor\.4 \(Linear\).*takes 5 values.*gives 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=message):
        load_actor(saved(tmp_path / "p.pt", {"model": make()}), activation="elu")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("executed",)


def test_hostile_checkpoints_are_one_clear_line(tmp_path: Path) -> None:
    circle: dict[str, Any] = {"a": torch.zeros(2, 2)}
    circle["again"] = circle
    wide = torch.zeros(1).expand(2**20, 2**20)
    arrays = chain("actor.", SIZE, 8, ACTIONS)
    for value, message in (
        (arrays | {"config": Bomb()}, r"holds .*, which weights never need; refused"),
        (circle, "circle"),
        ({"actor.0.weight": wide, "actor.2.weight": wide}, r"does not fit its 1 stored numbers|takes"),
        ({"a": 1}, "no chain of linear layers"),
        (arrays | {"actor.0.bias": torch.zeros(5)}, "bias of shape"),
        (arrays | {"actor.0.weight": torch.full((8, SIZE), float("nan"))}, "NaN"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            load_actor(saved(tmp_path / "p.pt", value), activation="elu")
        assert "\n" not in str(caught.value)
    whole = saved(tmp_path / "p.pt", arrays).read_bytes()
    for end in (8, len(whole) // 2, len(whole) - 20):
        (tmp_path / "cut.pt").write_bytes(whole[:end])
        with pytest.raises(SourceError, match=r"cut\.pt"):
            load_actor(tmp_path / "cut.pt", activation="elu")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": Bomb()}))
    with pytest.raises(SourceError):
        load_actor(tmp_path / "pickle.pt", activation="elu")


def test_numpy_scalars_and_generators_beside_the_weights_are_admitted(tmp_path: Path) -> None:
    arrays = chain("actor.", SIZE, 8, ACTIONS)
    whole = {"model": arrays, "best": np.float32(3), "step": np.int64(5), "seen": np.arange(4),
             "size": torch.Size([2]),
             "device": torch.device("cpu"), "parameter": nn.Parameter(torch.ones(2)),
             "kind": torch.float32}  # fmt: skip
    with warnings.catch_warnings(action="error"):
        close(load_actor(saved(tmp_path / "p.pt", whole), activation="elu"),
              forward(arrays, ["actor.0", "actor.2"], elu, OBS))  # fmt: skip
