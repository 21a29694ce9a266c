"""What stays refused is named for what it is, in every container; folders of weights and brax's tuples lead on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402
from tests.containers import containers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed, self.layers, self.out = nn.Linear(6, 8), nn.TransformerEncoder(layer, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(self.embed(x)[:, None])[:, 0])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(1, 3, 2)
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return self.out((weights @ self.v(x)).flatten(1))


class Diffusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        action = torch.randn(1, 2)
        for _ in range(5):
            action = action - 0.1 * self.net(torch.cat((x, action), -1))
        return action


class Denoiser(Diffusion):
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:  # pyright: ignore
        return self.net(torch.cat((x, noise), -1))


class WeighedExperts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 3), nn.ModuleList([nn.Linear(6, 2) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), -1)
        return sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts))  # pyright: ignore


class ChosenExperts(WeighedExperts):
    def forward(self, x: Tensor) -> Tensor:
        weights, _ = self.gate(x).topk(1)
        return self.experts[0](x) * weights


class StateSpace(nn.Module):
    """A selective state space, as Mamba's."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(-torch.rand(8, 4))
        self.b, self.c, self.step, self.body, self.out = (
            nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 2))  # fmt: skip
        self.register_buffer("h", torch.zeros(1, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        step = F.softplus(self.step(x))[..., None]
        h = torch.exp(step * self.rates) * self.h + step * self.body(x)[..., None] * self.b(x)[:, None]  # pyright: ignore
        self.h.copy_(h)  # pyright: ignore
        return self.out((h * self.c(x)[:, None]).sum(-1))


LOOKS: dict[str, tuple[type[nn.Module], str]] = {
    "transformer": (Transformer, r"attention|LayerNorm.*attention"), "attention": (Attention, "attention"),
    "diffusion": (Diffusion, "it is random: .* diffusion"), "mixture": (WeighedExperts, "attention"),
    "top expert": (ChosenExperts, "experts|parts of the network"), "state space": (StateSpace, "state spaces"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKS)
def test_it_is_named_in_every_container(name: str, tmp_path: Path) -> None:
    kind, reason = LOOKS[name]
    for source in containers(kind().eval(), tmp_path, check_trace=False):
        with pytest.raises(UnsupportedLayerError, match=reason) as caught:
            load_actor(source, observation_shape=(6,))
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


def test_one_step_of_denoising_is_no_policy(tmp_path: Path) -> None:
    torch.jit.script(Denoiser()).save(str(tmp_path / "p.pt"))
    for source in (Denoiser(), tmp_path / "p.pt"):
        with pytest.raises(UnsupportedLayerError, match=r"forward \(noise\).*diffusion"):
            load_actor(source)


def folder(path: Path, configuration: Any) -> Path:
    path.mkdir()
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    save_file({f"model.{key}": value for key, value in net.state_dict().items()}, str(path / "model.safetensors"))
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    (path / "config.json").write_text(text, encoding="utf-8")
    return path


def test_a_folder_of_weights_is_read_like_its_file(tmp_path: Path) -> None:
    path = folder(tmp_path / "policy", {"type": "bc", "hidden": [8]})
    one, other = (load_actor(source, activation="relu") for source in (path, path / "model.safetensors"))
    obs = np.ones((1, 6), np.float32)
    assert np.array_equal(one.act(obs), other.act(obs))
    with pytest.raises(SourceError, match="pass activation="):
        load_actor(path)


@pytest.mark.parametrize(
    ("kind", "what"), [("act", "chunks of actions"), ("diffusion", "diffusion policy"), ("pi0", "flow matching")]
)
def test_folders_of_other_policies_are_named(kind: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match=rf"\({kind}\) cannot be converted: it is .*{what}"):
        load_actor(folder(tmp_path / "policy", {"type": kind}), activation="relu")


@pytest.mark.parametrize("text", ["", "[1, 2]", "[" * 100_000, '{"type": ' + '"x' * 600_000, "\x00\x01"])
def test_a_configuration_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"config\.json") as caught:
        load_actor(folder(tmp_path / "policy", text), activation="relu")
    assert len(str(caught.value)) < 300


def test_braxs_tuple_leads_to_its_policy() -> None:
    layers = {"hidden_0": {"kernel": np.ones((6, 8)), "bias": np.zeros(8)},
              "hidden_1": {"kernel": np.ones((8, 4)), "bias": np.zeros(4)}}  # fmt: skip
    with pytest.raises(TypeError, match="brax's parameters"):
        load_actor(({"mean": np.zeros(6)}, {"params": layers}, {"params": layers}), activation="swish")
    assert load_actor({"params": layers}, activation="swish").head.kind == "tanh"
