"""Recurrent stacks, estimators and norms act as their modules do, whatever operator set and exporter wrote them."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import OnnxPolicy, SpikingPolicy, convert, load_actor  # noqa: E402
from tests.robot_policies import mlp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(10, 12, 2, batch_first=True), mlp(12, 8, 3)

    def forward(self, obs: Tensor, h_in: Tensor, c_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(obs.unsqueeze(1), (h_in, c_in))
        return self.out(y.squeeze(1)), h, c


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.rnn, self.out = nn.Linear(10, 8), nn.GRU(8, 9, 3), nn.Linear(9, 3)

    def forward(self, obs: Tensor, h_in: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(F.silu(self.encoder(obs))[None], h_in)
        return torch.tanh(self.out(y[0])), h


class Estimated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.body = mlp(10, 16, 8, 4), mlp(6, 16, 3)

    def forward(self, obs: Tensor) -> Tensor:
        latent = self.encoder(obs)
        return self.body(torch.cat([obs[:, :2], latent[:, :2], F.normalize(latent[:, 2:], dim=-1)], -1))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = nn.Linear(10, 16), nn.LayerNorm(16), nn.SiLU()
        second = nn.Linear(16, 16), nn.LayerNorm(16, elementwise_affine=False), nn.Hardswish()
        self.net = nn.Sequential(*first, *second, nn.Linear(16, 3))

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs).clamp(-1, 1)


KINDS: dict[str, tuple[type[nn.Module], dict[str, tuple[int, ...]]]] = {
    "LSTM": (TwoLayers, {"h_in": (2, 1, 12), "c_in": (2, 1, 12)}), "GRU": (Stack, {"h_in": (3, 1, 9)}),
    "estimator": (Estimated, {}), "norms": (Normed, {}),
}  # fmt: skip
WAYS = [(False, 9), (False, 11), (False, 13), (False, 17), (False, 20), (True, 18), (True, 21)]


def written(name: str, path: Path, dynamo: bool, opset: int) -> nn.Module:
    kind, states = KINDS[name]
    torch.manual_seed(3)
    module = kind().eval()
    example = torch.zeros(1, 10), *(torch.zeros(shape) for shape in states.values())
    outputs = ["actions", *(state.replace("in", "out") for state in states)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(module, example, str(path), dynamo=dynamo, opset_version=opset,
                          input_names=["obs", *states], output_names=outputs)  # fmt: skip
    return module


def acted(module: nn.Module, observations: Any, states: dict[str, tuple[int, ...]]) -> np.ndarray:
    """The module's own actions, one after another."""
    held, actions = [torch.zeros(shape) for shape in states.values()], []
    with torch.no_grad():
        for row in observations:
            result = module(torch.as_tensor(row[None]), *held)
            if states:
                result, *held = result
            actions.append(result.numpy()[0])
    return np.array(actions)


@pytest.mark.parametrize(("dynamo", "opset"), WAYS, ids=lambda value: str(value))
@pytest.mark.parametrize("name", KINDS)
def test_it_acts_as_its_module_over_200_decisions(name: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    module = written(name, tmp_path / "p.onnx", dynamo, opset)
    obs = np.random.default_rng(0).standard_normal((200, 10)).astype(np.float32)
    own, actor = acted(module, obs, KINDS[name][1]), load_actor(tmp_path / "p.onnx")
    actor.reset(num_envs=1)
    whole = np.array([actor.act(row[None])[0] for row in obs])
    assert abs(whole - own).max() <= 1e-5 * abs(own).max()
    actor.reset(num_envs=1)
    for row in obs[:50]:
        actor.act(row[None])
    state = actor.state
    for row in obs[50:80]:
        actor.act(row[None])
    actor.state = state
    again = np.array([actor.act(row[None])[0] for row in obs[50:]])
    assert np.array_equal(again, whole[50:])


@pytest.mark.parametrize("name", KINDS)
def test_what_was_read_converts_and_keeps_its_decisions_in_bundles_and_graphs(name: str, tmp_path: Path) -> None:
    written(name, tmp_path / "p.onnx", False, 13)
    walk = np.cumsum(np.random.default_rng(0).standard_normal((600, 10)) * 0.1, 0).astype(np.float32)
    policy = convert(load_actor(tmp_path / "p.onnx"), walk)
    policy.save(tmp_path / "bundle")
    policy.export_onnx(tmp_path / "graph")
    policies = policy, SpikingPolicy.load(tmp_path / "bundle"), OnnxPolicy(tmp_path / "graph")
    actions = [np.array([one.act(row) for row in walk[:200]]) for one in policies]
    assert np.array_equal(actions[0], actions[1])
    difference = abs(actions[0] - actions[2]).max(-1)  # a spike that rounding moves is felt until the cell forgets it
    assert np.mean(difference < 1e-4) > 0.9
    assert difference.max() < 0.005
