"""What cannot be read says what it is and what to pass instead; names that lack their ending are found."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from torch import nn

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.test_sources_sb3 import Arm
from tests.test_sources_spelled import exported


def small(**options: Any) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"} | options


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


PARTS: dict[str, Callable[[], Any]] = {
    "sac-actor": lambda: SAC("MlpPolicy", Arm(), **small()).actor,
    "tqc-actor": lambda: TQC("MlpPolicy", Arm(), **small()).actor,
    "td3-actor": lambda: TD3("MlpPolicy", Arm(), **small()).actor,
    "td3-critic": lambda: TD3("MlpPolicy", Arm(), **small()).critic,
    "dqn-q-net": lambda: DQN("MlpPolicy", Arm(None), **small()).q_net,
    "extractor": lambda: PPO("MlpPolicy", Arm(), **small()).policy.mlp_extractor,
    "features": lambda: A2C("MlpPolicy", Arm(), **small()).policy.features_extractor,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_an_algorithm_says_to_pass_the_algorithm(name: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"one part of an algorithm.*pass the algorithm itself"):
        load_actor(PARTS[name]())


METHODS: dict[str, tuple[Callable[[], Any], str]] = {
    "algorithm": (lambda: PPO("MlpPolicy", Arm(), **small()).predict, r"PPO\.predict.*pass the algorithm itself"),
    "policy": (lambda: SAC("MlpPolicy", Arm(), **small()).policy.forward, r"pass the algorithm itself"),
    "module": (lambda: Named().forward, r"Named\.forward, a bound method: pass the module itself"),
    "class": (lambda: Named, "pass an instance"),
    "function": (lambda: lambda x: x, "pass the module or algorithm"),
    "built-in": (lambda: torch.tanh, "pass the module or algorithm"),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_and_functions_say_what_to_pass(name: str) -> None:
    make, message = METHODS[name]
    with pytest.raises(TypeError, match=message):
        load_actor(make())


FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "state dict": ("p.pth", lambda path: torch.save(network().state_dict(), path), r"a checkpoint.*0\.weight.*load_st"),
    "nested": (
        "model_500.pt",
        lambda path: torch.save({"model_state_dict": network().state_dict(), "iter": np.float64(3)}, path),
        "a checkpoint.*load_state_dict",
    ),
    "old state dict": (
        "p.pt",
        lambda path: torch.save(network().state_dict(), path, _use_new_zipfile_serialization=False),
        "a checkpoint",
    ),
    "module": ("p.pt", lambda path: torch.save(network(), path), r"a pickled module.*Sequential.*could run anything"),
    "own module": ("p.pth", lambda path: torch.save(Named(), path), "a pickled .*Named"),
    "old module": (
        "p.pt",
        lambda path: torch.save(network(), path, _use_new_zipfile_serialization=False),
        "a pickled module",
    ),
    "module as zip": ("p.zip", lambda path: torch.save(network(), path), "a pickled module"),
    "pickle": ("p.pkl", lambda path: path.write_bytes(pickle.dumps(Named())), "a pickled .*Named"),
    "no ending": ("policy", lambda path: torch.save(network().state_dict(), path), "a checkpoint"),
    "text": ("p.pt", lambda path: path.write_text("hello"), "unknown content, or cut off"),
    "truncated": ("p.pt", lambda path: path.write_bytes(b"\x80\x02}q"), "unknown content, or cut off"),
    "empty": ("p.pt", lambda path: path.write_bytes(b""), "an empty file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_torch_say_what_they_are(tmp_path: Path, name: str) -> None:
    ending, write, message = FILES[name]
    with warnings.catch_warnings(action="ignore"):
        write(tmp_path / ending)
    with pytest.raises(SourceError, match=message) as caught:
        load_actor(tmp_path / ending)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / ending) in str(caught.value)


class Bomb:
    """Fails the test when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("executed",)


@pytest.mark.parametrize("ending", ["p.pt", "p.pth", "p.zip", "p"])
def test_a_file_is_looked_at_without_running_it(tmp_path: Path, ending: str) -> None:
    for write in (lambda: torch.save({"a": Bomb()}, tmp_path / ending), lambda: torch.save(Bomb(), tmp_path / ending)):
        write()
        with pytest.raises(SourceError):
            load_actor(tmp_path / ending)


@pytest.mark.parametrize(
    ("saved", "asked", "name"),
    [
        ("ppo_arm", "ppo_arm", "ppo_arm"),
        ("best_1.5M", "best_1.5M", "best_1.5M"),
        ("run.v2.zip", "run.v2", "run.v2"),
        ("ppo_arm.zip", "ppo_arm.zip", "ppo_arm"),
    ],
)
def test_names_without_their_ending_are_found(tmp_path: Path, saved: str, asked: str, name: str) -> None:
    model = PPO("MlpPolicy", Arm(), **small())
    model.save(tmp_path / saved)
    actor = load_actor(tmp_path / asked)
    assert actor.name == name
    obs = np.ones((1, 5), np.float32)
    assert np.abs(actor.act(obs) - model.predict(obs, deterministic=True)[0]).max() <= 1e-6


def test_a_folder_beside_the_zip_does_not_hide_it(tmp_path: Path) -> None:
    PPO("MlpPolicy", Arm(), **small()).save(tmp_path / "ppo")
    (tmp_path / "ppo").mkdir()
    assert load_actor(tmp_path / "ppo").observation_shape == (5,)


class Sequence(nn.Module):
    """A recurrent layer, used as `read` says."""

    def __init__(self, layer: nn.Module, read: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.layer, self.out, self.read = layer, nn.Linear(8, 1), read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.read(self.layer, x))


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(3, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.cell(x, hidden)
        return self.out(hidden), hidden


class Forgetful(Stateful):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return self.out(self.cell(x))


RECURRENT: dict[str, tuple[Callable[[], Any], str]] = {
    "lstm": (lambda: Sequence(nn.LSTM(3, 8), lambda layer, x: layer(x)[0]), r"layer \(LSTM\)"),
    "gru": (lambda: Sequence(nn.GRU(3, 8), lambda layer, x: layer(x.unsqueeze(0))[0].squeeze(0)), r"layer \(GRU\)"),
    "rnn": (lambda: Sequence(nn.RNN(3, 8), lambda layer, x: layer(x)[0][:, -1]), r"layer \(RNN\)"),
    "branching": (
        lambda: Sequence(nn.LSTM(3, 8), lambda layer, x: layer(x)[0] if x.sum() > 0 else x),
        r"layer \(LSTM\)",
    ),
    "cell": (Forgetful, r"cell \(GRU\)"),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_networks_are_called_recurrent(name: str) -> None:
    make, kind = RECURRENT[name]
    with pytest.raises(UnsupportedLayerError, match=f"{kind}.*it is recurrent"):
        load_actor(make())


def test_a_recurrent_policy_remembers_live_and_saved(tmp_path: Path) -> None:
    model = RecurrentPPO("MlpLstmPolicy", Arm())
    model.save(tmp_path / "model.zip")
    observations = np.random.default_rng(0).standard_normal((50, *model.observation_space.shape)).astype(np.float32)  # pyright: ignore
    for source in (model, tmp_path / "model.zip"):
        actor, state, start = load_actor(source), None, np.ones(1, bool)
        for obs in observations:
            own, state = model.predict(obs[None], state=state, episode_start=start, deterministic=True)
            start = np.zeros(1, bool)
            assert np.abs(actor.act(obs[None]) - own).max() <= 1e-5


def test_a_recurrent_layer_that_the_action_does_not_need_is_no_matter() -> None:
    class WithCritic(Named):
        def __init__(self) -> None:
            super().__init__()
            self.critic = nn.LSTM(3, 4)

    assert load_actor(WithCritic()).action_shape == (1,)


NORMED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "with std": (lambda h: (h - h.mean(-1, True)) / (h.std(-1, True) + 1e-5), "LayerNorm"),
    "with variance": (lambda h: (h - h.mean(-1, True)) / (h.var(-1, keepdim=True) + 1e-5), "LayerNorm"),
}


@pytest.mark.parametrize("name", NORMED)
def test_a_layer_norm_is_called_so_however_it_is_written(name: str) -> None:
    function, kind = NORMED[name]
    with pytest.raises(UnsupportedLayerError, match=rf"\({kind}\) cannot be converted") as caught:
        load_actor(Sequence(nn.Linear(3, 8), lambda layer, x: function(layer(x))))
    assert "Retrain" in caught.value.remedy


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_a_layer_norm_in_an_sb3_policy_is_called_so_live_and_saved(tmp_path: Path, kind: Any) -> None:
    model = SAC("MlpPolicy", Arm(), **small())
    model.actor.latent_pi.insert(1, kind(8))
    model.save(tmp_path / "model.zip")
    for source in (model, tmp_path / "model.zip"):
        with pytest.raises(UnsupportedLayerError, match=rf"actor\.latent_pi\.1 \({kind.__name__}\)"):
            load_actor(source)


@pytest.mark.parametrize(
    ("read", "keys"),
    [
        (lambda module, obs: module(obs["policy"]), "'policy'"),
        (lambda module, obs: module(obs.get("state")), "'state'"),
        (lambda module, obs: module(torch.cat([obs["b"], obs["a"]], -1)), "'a', 'b'"),
        (lambda module, obs: module((obs["x"] - 1) / 2), "'x'"),
    ],
)
def test_a_module_that_takes_a_dictionary_says_so_and_names_its_keys(read: Any, keys: str) -> None:
    class Takes(Named):
        def forward(self, obs: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return read(self.fc, obs)

    with pytest.raises(UnsupportedLayerError, match=rf"takes a dictionary of observations \(keys {keys}\).*Wrap it"):
        load_actor(Takes())


@pytest.mark.parametrize("name", ["actor_mean", "actor", "policy_net"])
def test_an_agent_without_a_forward_names_the_part_that_is_the_policy(name: str) -> None:
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = nn.Linear(3, 1)
            setattr(self, name, network())

        def get_action_and_value(self, x: torch.Tensor) -> torch.Tensor:
            return getattr(self, name)(x)

    with pytest.raises(UnsupportedLayerError, match=rf"it has no forward.*agent\.{name}\?"):
        load_actor(Agent())
    assert load_actor(getattr(Agent(), name)).action_shape == (1,)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_other_precisions_are_read(precision: torch.dtype) -> None:
    module = network().to(precision)
    actor = load_actor(module)
    obs = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module.float()(torch.as_tensor(obs)).numpy()
    assert np.abs(actor.act(obs) - expected).max() <= 1e-5


def test_a_module_that_casts_to_bfloat16_by_itself_is_read() -> None:
    class Casts(Named):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.to(torch.bfloat16)).float()

    module = Casts().to(torch.bfloat16)
    obs = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    with torch.no_grad():
        assert np.abs(load_actor(module).act(obs) - module(torch.as_tensor(obs)).numpy()).max() <= 0.05


def test_an_actor_prints_as_one_line() -> None:
    first = Linear(np.ones((4, 6), np.float32), np.ones(4, np.float32), RELU)
    last = Linear(np.ones((2, 4), np.float32), np.ones(2, np.float32))
    plain = Actor((first, last), Head.bounded([-1, -1], [1, 1]), (2, 3), name="arm")
    assert str(plain) == repr(plain) == "Actor(arm, 2×3 → 4 relu → 2 tanh)"
    normaliser = Normaliser(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32))
    full = Actor((first, last), Head.argmax(2), (2, 3), normaliser, "Arm-v0", "arm")
    assert repr(full) == "Actor(arm, 2×3 → 4 relu → 2 argmax, normalises observations, Arm-v0)"
    assert "\n" not in f"{full}"


def test_a_state_dict_is_told_to_be_weights_without_their_network() -> None:
    with pytest.raises(TypeError, match="weights without their network; build the network"):
        load_actor(nn.Linear(3, 2).state_dict())


class Less(nn.Module):
    """Applies what is not a layer: bounds in the wrong order, or the mean over a batch of one taken away."""

    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.crossed = crossed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, 1, -1) if self.crossed else x - x.mean(0)


@pytest.mark.parametrize(
    ("crossed", "told"), [(True, "above its upper bound; swap"), (False, r"x − x\.mean\(0\) leaves")]
)
@pytest.mark.parametrize("kind", ["module", "trace", "graph"])
def test_what_makes_every_action_the_same_is_refused(crossed: bool, told: str, kind: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(5, 8), Less(crossed), nn.Linear(8, 2)).eval()
    if kind == "trace":
        torch.jit.trace(net, torch.zeros(1, 5)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    source = {"module": net, "trace": tmp_path / "p.pt", "graph": tmp_path / "p.onnx"}[kind]
    if kind == "graph":
        exported(net, tmp_path / "p.onnx")
    with pytest.raises((SourceError, UnsupportedLayerError), match=told):
        load_actor(source)
