"""Clips between layers (ReLU6, Hardtanh, clamp, ONNX's Clip) are an activation, in every reader, engine and export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from snn_policy import OnnxPolicy, SpikingPolicy, convert, load_actor  # noqa: E402
from snn_policy.ann.activations import Activation  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402
from tests.actors import random_actor, walk  # noqa: E402
from tests.containers import containers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
LOW, HIGH = torch.linspace(-0.5, 0.05, 8), torch.linspace(0.1, 0.8, 8)


class Around(nn.Module):
    """A function between two linear layers."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.body = nn.Linear(6, 8), nn.Linear(8, 3), body
        self.register_buffer("low", LOW)
        self.register_buffer("high", HIGH)

    def forward(self, x: Any) -> Any:
        return self.last(self.body(self.first(x)))


class EntryByEntry(Around):
    def forward(self, x: Any) -> Any:
        return self.last(torch.maximum(torch.minimum(self.first(x), self.high), self.low))  # pyright: ignore


BODIES: dict[str, tuple[Any, list[str]]] = {
    "relu6": (F.relu6, ["clip"]), "ReLU6": (nn.ReLU6(), ["clip"]), "Hardtanh": (nn.Hardtanh(-0.2, 0.3), ["clip"]),
    "clamp": (lambda x: x.clamp(-0.5, 0.2), ["clip"]), "from above": (lambda x: x.clamp(max=0.2), ["relu"]),
    "from below": (lambda x: x.clamp(min=-0.1), ["relu"]),
    "relu, clamp": (lambda x: torch.clamp(torch.relu(x), max=0.3), ["clip"]),
    "tanh, clamp": (lambda x: x.tanh().clamp(-0.5, 0.5), ["tanh", "clip"]),
    "residual": (lambda x: x.clamp(-0.3, 0.3) + x, ["clip"]), "entry by entry": (None, ["clip"]),
    "scaled": (lambda x: (x * 0.5).clamp(-0.1, 0.3) * 2 + 1, ["clip"]),
}  # fmt: skip


def made(name: str) -> nn.Module:
    return (EntryByEntry if name == "entry by entry" else Around)(BODIES[name][0]).eval()


@pytest.mark.parametrize("name", BODIES)
def test_all_readers_take_them_for_activations(name: str, tmp_path: Path) -> None:
    module = made(name)
    obs = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32) * 3
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source)
        found = [stage.cell.activation.name for stage in actor.graph.stages if stage.cell.activation]  # pyright: ignore
        assert found == BODIES[name][1]
        actor.reset(num_envs=64)
        assert abs(actor.act(obs) - own).max() <= 1e-6


@pytest.mark.parametrize("reach", [6.0, 1.0, 0.25])
def test_function_and_derivative_are_torchs(reach: float) -> None:
    z = np.linspace(-12, 12, 4001).astype(np.float32)[1:-1]
    tensor = torch.tensor(z, requires_grad=True)
    exact = torch.clamp(tensor, 0, reach)
    (slope,) = torch.autograd.grad(exact.sum(), tensor)
    f, inner = Activation("clip", reach), (z != 0) & (z != reach)
    assert np.array_equal(f(z), exact.detach().numpy())
    assert np.array_equal(f(tensor.detach()).numpy(), f(z))
    assert np.array_equal(f.derivative(z)[inner], slope.numpy()[inner])


@pytest.mark.parametrize("reach", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_none_is_refused(reach: float) -> None:
    with pytest.raises(ValueError, match=r"λ must be positive|not finite"):
        Activation("clip", reach)


def test_engines_bundles_and_graphs_decide_alike(tmp_path: Path) -> None:
    actor, recording = random_actor(activation=Activation("clip", 0.5)), walk(1500)
    compiled, plain = (convert(actor, recording, engine=engine) for engine in ("event", "numpy"))
    compiled.save(tmp_path / "b")
    compiled.export_onnx(tmp_path / "o")
    again, graph = SpikingPolicy.load(tmp_path / "b"), OnnxPolicy(tmp_path / "o")
    assert again.actor.hidden[0].activation == Activation("clip", 0.5)
    actions = [[policy.act(obs) for obs in recording[:300]] for policy in (compiled, plain, again, graph)]
    assert np.array_equal(actions[0], actions[2])
    for other in (actions[1], actions[3]):
        assert np.mean(np.abs(np.array(actions[0]) - np.array(other)).max(-1) < 1e-4) > 0.97


def test_other_neurons_refuse_them_by_name() -> None:
    actor = random_actor(activation=Activation("clip", 0.5))
    for neuron in ("if", "snm", "mt"):
        with pytest.raises(UnsupportedLayerError, match="clip"):
            convert(actor, walk(200), neuron=neuron)


@pytest.mark.parametrize(("name", "body"), [("relu6", nn.ReLU6), ("hardtanh", nn.Hardtanh)])
def test_checkpoints_know_their_names(name: str, body: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), body(), nn.Linear(8, 3))
    weights = {f"actor.{key}": value for key, value in net.state_dict().items()}
    actor, obs = load_actor(weights, activation=name), np.full((1, 6), 0.7, np.float32)
    assert abs(actor.act(obs) - net(torch.as_tensor(obs)).detach().numpy()).max() <= 1e-6
