"""Beta policies act as their mean α/(α + β): read from torch modules, TorchScript and ONNX, converted and exported."""

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
LOW, HIGH = [-2.0, -1.0, 0.0], [2.0, 1.0, 3.0]


class Beta(nn.Module):
    """Two heads, α = 1 + softplus(·), β likewise; the mean fills the bounds."""

    def __init__(self, least: float = 1.0, scale: float = 4.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.alpha, self.beta = nn.Linear(16, 3), nn.Linear(16, 3)
        self.both = nn.Linear(16, 6)
        self.least = least
        self.register_buffer("low", torch.tensor(LOW))
        self.register_buffer("high", torch.tensor(HIGH))
        for layer in (self.alpha, self.beta, self.both):
            layer.weight.data *= scale

    def bounded(self, mean: Any) -> Any:
        return self.low + (self.high - self.low) * mean  # pyright: ignore

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        alpha, beta = F.softplus(self.alpha(x)) + self.least, F.softplus(self.beta(x)) + self.least
        return self.bounded(alpha / (alpha + beta))


class Chunked(Beta):
    """One layer for both; the interval is [−1, 1]."""

    def forward(self, x: Any) -> Any:
        alpha, beta = (F.softplus(self.both(self.body(x))) + self.least).chunk(2, -1)
        return 2 * (alpha / (alpha + beta)) - 1


class Spelled(Beta):
    """The logarithm of an exponential, and the concentrations computed twice."""

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        alpha = torch.log(1 + torch.exp(self.alpha(x))) + 1
        total = torch.log(1 + torch.exp(self.alpha(x))) + 1 + torch.log(1 + torch.exp(self.beta(x))) + 1
        return self.bounded(alpha / total)


class Mode(Beta):
    """(α − 1)/(α + β − 2), where α and β are above 1: nothing is added."""

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        alpha, beta = 1 + F.softplus(self.alpha(x)), 1 + F.softplus(self.beta(x))
        return self.bounded((alpha - 1) / (alpha + beta - 2))


class Distribution(Beta):
    def forward(self, x: Any) -> Any:
        x = self.body(x)
        alpha, beta = F.softplus(self.alpha(x)) + 1, F.softplus(self.beta(x)) + 1
        return self.bounded(torch.distributions.Beta(alpha, beta, validate_args=False).mean)


KINDS: dict[str, Any] = {
    "plus one": Beta, "nothing added": lambda: Beta(0.0), "a little added": lambda: Beta(1e-3), "chunked": Chunked,
    "spelled": Spelled, "mode": Mode, "clipped away from the ends": lambda: Beta(0.5, 20.0),
}  # fmt: skip


def observations(rows: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32) * 2


@pytest.mark.parametrize("name", KINDS)
def test_every_reader_takes_the_mean(name: str, tmp_path: Path) -> None:
    module, obs = KINDS[name]().eval(), observations()
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source)
        assert actor.head.kind == "tanh"
        assert np.allclose([actor.low, actor.high], [[-1] * 3, [1] * 3] if name == "chunked" else [LOW, HIGH])
        actor.reset(num_envs=len(obs))
        assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


def test_torchs_own_distribution_is_read() -> None:
    module, obs = Distribution().eval(), observations()
    actor = load_actor(module)
    actor.reset(num_envs=len(obs))
    assert abs(actor.act(obs) - module(torch.as_tensor(obs)).detach().numpy()).max() <= 3e-5


@pytest.mark.parametrize("name", ["plus one", "nothing added", "chunked"])
def test_it_is_converted_saved_and_exported(name: str, tmp_path: Path) -> None:
    actor, recording = load_actor(KINDS[name]().eval()), observations(1500)
    policy = convert(actor, recording, predictor=0)
    policy.save(tmp_path / "b")
    policy.export_onnx(tmp_path / "o")
    again, graph = SpikingPolicy.load(tmp_path / "b"), OnnxPolicy(tmp_path / "o")
    plain = convert(actor, recording, predictor=0, engine="numpy")
    actions = [np.stack([one.act(obs) for obs in recording[:200]]) for one in (actor, policy, again, graph, plain)]
    half = (actor.high - actor.low) / 2
    assert np.mean(abs(actions[1] - actions[0]) / half) <= 0.02
    assert np.array_equal(actions[1], actions[2])
    for other in actions[3:]:
        assert np.mean(abs(actions[1] - other).max(-1) < 1e-4) > 0.97


@pytest.mark.parametrize("least", [0.0, 1e-3, 1.0])
def test_function_and_derivative_are_exact(least: float) -> None:
    z = np.concatenate([np.linspace(-14, 14, 2001), [-80, -30, 30, 80]]).astype(np.float32)
    tensor = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    exact = torch.log(torch.log1p(torch.exp(tensor)) + least)
    (slope,) = torch.autograd.grad(exact.sum(), tensor)
    f = Activation("log_softplus", least)
    assert np.abs(f(z) - exact.detach().numpy()).max() <= 2e-5
    assert np.abs(f.derivative(z) - slope.numpy()).max() <= 1e-4
    with np.errstate(over="ignore"):
        assert np.isfinite(f(np.array([-1e30, 1e30], np.float32))).all()


@pytest.mark.parametrize("least", [0.0, 1e-3, 1.0])
def test_the_compiled_core_decides_alike(least: float) -> None:
    actor, recording = random_actor(activation=Activation("log_softplus", least)), walk(1500)
    compiled, plain = (convert(actor, recording, engine=engine) for engine in ("event", "numpy"))
    differences = [np.abs(compiled.act(obs) - plain.act(obs)).max() for obs in recording[:400]]
    assert np.mean(np.array(differences) < 1e-4) > 0.97


def of(body: Any) -> nn.Module:
    module = Beta()
    module.forward = lambda x: body(module, module.body(x))  # pyright: ignore
    return module


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: (m.alpha(x).tanh() + 2) / (m.alpha(x).tanh() + m.beta(x).tanh() + 4),
        lambda m, x: (F.softplus(m.alpha(x)) - 2) / (F.softplus(m.alpha(x)) + F.softplus(m.beta(x)) - 1),
        lambda m, x: F.softplus(m.alpha(x)) / (F.softplus(m.alpha(x)) + F.softplus(m.beta(x)) + F.softplus(-m.beta(x))),
    ],
)
def test_other_quotients_are_refused_by_name(body: Any) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"Beta head.*Beta distribution"):
        load_actor(of(body))
