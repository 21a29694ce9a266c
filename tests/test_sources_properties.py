"""Random torch networks of every supported kind: the actor always computes what the module does."""

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from snn_policy.sources import load_actor

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid, lambda: nn.ELU(0.3), lambda: nn.PReLU())
HEADS = ("none", "tanh", "rescaled", "sigmoid", "hardtanh", "clamp", "gsde", "argmax")


class Network(nn.Module):
    """[normaliser, clip] → ([dropout] linear [norm] activation [norm])* → linear → head."""

    mean: torch.Tensor
    std: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layers: list[nn.Module], statistics: tuple[Any, Any, float] | None, head: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head, self.reach = head, None if statistics is None else statistics[2]
        if statistics is not None:
            self.register_buffer("mean", statistics[0])
            self.register_buffer("std", statistics[1])
        self.register_buffer("scale", torch.linspace(-1.5, 2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.reach is not None:
            x = ((x - self.mean) / self.std).clamp(-self.reach, self.reach)
        y = self.layers(x)
        match self.head:
            case "tanh":
                return y.tanh()
            case "rescaled":
                return torch.tanh(y) * self.scale + 0.5
            case "sigmoid":
                return 3 * torch.sigmoid(y) - 1
            case "hardtanh":
                return nn.functional.hardtanh(y, -0.5, 0.7)
            case "clamp":
                return (2 * y).clamp(-self.scale.abs(), self.scale.abs())
            case "gsde":
                return nn.functional.hardtanh(y, -2, 2).tanh()
            case "argmax":
                return y.argmax(dim=-1)
        return y


def norm(width: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(width)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.3, 3)
    layer.weight.data.normal_()
    layer.bias.data.normal_()
    return layer


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, int]:
    torch.manual_seed(draw(st.integers(0, 10_000)))
    width = size = draw(st.integers(1, 6))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(0, 4))):
        outputs = draw(st.integers(1, 24))
        layers += [nn.Dropout(0.4)] if draw(st.booleans()) else []
        layers.append(nn.Linear(width, outputs, bias=draw(st.booleans())))
        layers += [norm(outputs)] if draw(st.booleans()) else []
        layers += [draw(st.sampled_from(ACTIVATIONS))()] if draw(st.integers(0, 4)) else []
        layers += [norm(outputs)] if draw(st.integers(0, 3)) == 0 else []
        width = outputs
    layers += [nn.Linear(width, 3), *([norm(3)] if draw(st.integers(0, 3)) == 0 else [])]
    statistics = torch.randn(size), torch.rand(size) + 0.2, draw(st.sampled_from([0.5, 3.0, float("inf")]))
    module = Network(layers, statistics if draw(st.booleans()) else None, draw(st.sampled_from(HEADS)))
    return module.train(draw(st.booleans())), size


@given(networks())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_supported_network_is_computed_alike(network: tuple[Network, int]) -> None:
    module, size = network
    training = module.training
    actor = load_actor(module)
    assert module.training == training
    obs = np.random.default_rng(0).standard_normal((200, size)).astype(np.float32)
    with torch.no_grad():
        own = module.eval()(torch.from_numpy(obs)).numpy()
    if actor.discrete:
        assert np.mean(actor.act(obs) == own) >= 0.99
    else:
        assert np.abs(actor.act(obs) - own).max() <= 1e-5 * (1 + np.abs(own).max())
        assert (actor.low <= actor.act(obs)).all()
        assert (actor.act(obs) <= actor.high).all()


@given(st.integers(0, 10_000), st.lists(st.sampled_from(["scale", "clip"]), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_sequence_of_scales_and_clips_ends_in_one_clip(seed: int, kinds: list[str]) -> None:
    from snn_policy.sources.elementwise import ScaleAndClip

    rng = np.random.default_rng(seed)
    run, x = ScaleAndClip.identity(4), rng.standard_normal((100, 4)) * 3
    y = x
    for kind in kinds:
        a, b = rng.standard_normal((2, 4))
        if kind == "scale":
            a[rng.integers(4)] *= rng.integers(2)
            run, y = run.then_scale(a, b), y * a + b
        else:
            low, high = np.minimum(a, b), np.where(rng.random(4) < 0.3, np.inf, np.maximum(a, b))
            run, y = run.then_clip(low, high, None), np.clip(y, low, high)
    assert np.abs(np.clip(x * run.scale + run.offset, run.low, run.high) - y).max() <= 1e-9
