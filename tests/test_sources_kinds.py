"""Transformers, mixtures of experts, diffusion and state spaces are called what they are, however they are written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402
from tests.containers import containers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Tokens(nn.Module):
    """Three tokens of two values; queries, keys and values of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.out = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(12, 2)
        self.query, self.first = nn.Parameter(torch.randn(1, 1, 4)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(x.reshape(-1, 3, 2))

    def mixed(self, x: Tensor) -> Tensor:
        return self.out(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)).flatten(1))


class Sums(Tokens):
    def mixed(self, x: Tensor) -> Tensor:
        weights = torch.softmax(torch.einsum("btd,bsd->bts", self.q(x), self.k(x)), -1)
        return self.out(torch.einsum("bts,bsd->btd", weights, self.v(x)).flatten(1))


class LearnedQuery(Tokens):
    def mixed(self, x: Tensor) -> Tensor:
        return self.first((torch.softmax(self.query @ self.k(x).transpose(1, 2), -1) @ self.v(x))[:, 0])


class Linearised(Tokens):
    def mixed(self, x: Tensor) -> Tensor:
        q, k = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1
        return self.out((q @ (k.transpose(1, 2) @ self.v(x))).flatten(1))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(2, 8), nn.Linear(24, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 3, 2))
        return self.out(self.attention(x, x, x, need_weights=False)[0].flatten(1))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 3))
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 2)) for _ in range(3)])
        self.weights, self.biases = nn.Parameter(torch.randn(3, 2, 6)), nn.Parameter(torch.randn(3, 2))

    def each(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts], 1)

    def forward(self, x: Tensor) -> Tensor:
        return (F.softmax(self.gate(x), -1)[..., None] * self.each(x)).sum(1)


class Batched(Experts):
    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(F.softmax(self.gate(x), -1)[:, None], self.each(x))[:, 0]


class SummedExperts(Experts):
    def forward(self, x: Tensor) -> Tensor:
        made = torch.einsum("bi,eoi->beo", x, self.weights) + self.biases
        return torch.einsum("be,beo->bo", F.softmax(self.gate(x), -1), made)


class Blended(Experts):
    """Weights that a gate blends, as mode-adaptive networks have them."""

    def forward(self, x: Tensor) -> Tensor:
        gate = F.softmax(self.gate(x), -1)
        weights = torch.einsum("be,eoi->boi", gate, self.weights)
        return torch.tanh(torch.bmm(weights, x[..., None])[..., 0] + gate @ self.biases)


class Best(Experts):
    def forward(self, x: Tensor) -> Tensor:
        found, places = self.gate(x).topk(2, -1)
        gate = torch.zeros(x.shape[0], 3).scatter(1, places, F.softmax(found, -1))
        return (gate[..., None] * self.each(x)).sum(1)


class OneHot(Experts):
    def forward(self, x: Tensor) -> Tensor:
        return (F.one_hot(self.gate(x).argmax(-1), 3).float()[..., None] * self.each(x)).sum(1)


class Gathered(Experts):
    def forward(self, x: Tensor) -> Tensor:
        return torch.gather(self.each(x), 1, self.gate(x).argmax(-1)[:, None, None].expand(-1, 1, 2))[:, 0]


class Denoised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    def start(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape[0], 2)

    def forward(self, x: Tensor) -> Tensor:
        action = self.start(x)
        for _ in range(3):
            action = action - 0.1 * self.net(torch.cat((x, action), -1))
        return action


class LikeObservation(Denoised):
    def start(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :2])


class InPlace(Denoised):
    def start(self, x: Tensor) -> Tensor:
        return torch.empty(1, 2).normal_()


class Selective(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rates, self.out = nn.Parameter(-torch.rand(8)), nn.Linear(8, 2)
        self.step, self.gate, self.body = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8)
        self.register_buffer("h", torch.zeros(1, 8))

    def decay(self, x: Tensor) -> Tensor:
        return torch.exp(F.softplus(self.step(x)) * self.rates)

    def forward(self, x: Tensor) -> Tensor:
        h = self.decay(x) * self.h + self.body(x)  # pyright: ignore
        self.h.copy_(h)  # pyright: ignore
        return self.out(h)


class GatedLinear(Selective):
    def decay(self, x: Tensor) -> Tensor:
        return torch.exp(-8 * F.softplus(self.rates) * torch.sigmoid(self.gate(x)))


class Scan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step, self.body, self.out = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 3, 2)
        total = torch.cumsum(F.logsigmoid(self.step(x)), 1)
        return self.out((torch.exp(total[:, -1:] - total) * self.body(x)).sum(1))


ATTENTION, EXPERTS, RANDOM, SPACES = r"(?i)\(\w*attention\)", "experts", "it is random.*diffusion", "state spaces"
KINDS: dict[type[nn.Module], str] = {
    **dict.fromkeys((Tokens, Sums, LearnedQuery, Linearised, Heads), ATTENTION),
    **dict.fromkeys((Experts, Batched, SummedExperts, Blended, Best, OneHot, Gathered), EXPERTS),
    **dict.fromkeys((Denoised, LikeObservation, InPlace), RANDOM),
    **dict.fromkeys((Selective, GatedLinear, Scan), SPACES),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_container_is_called_what_it_is(kind: Callable[[], nn.Module], tmp_path: Path) -> None:
    reason = KINDS[kind]  # pyright: ignore
    module = kind().eval()
    scripted = tmp_path / "scripted.pt"
    torch.jit.script(module).save(str(scripted))  # pyright: ignore[reportAttributeAccessIssue]
    for source in (*containers(module, tmp_path, check_trace=False), scripted):
        with pytest.raises(UnsupportedLayerError, match=reason) as caught:
            load_actor(source, observation_shape=(6,))
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert reason != EXPERTS or caught.value.kind != "attention"


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(9, 2)

    def forward(self, x: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        return self.net(torch.cat((x, noise, timestep), -1))


@pytest.mark.parametrize(
    "names", [["x", "noise", "timestep"], ["obs", "noisy_action", "t"], ["o", "a", "diffusion_step"]]
)
def test_a_graph_that_takes_noise_is_one_step_of_denoising(names: list[str], tmp_path: Path) -> None:
    example = torch.zeros(1, 6), torch.zeros(1, 2), torch.zeros(1, 1)
    torch.onnx.export(Steps(), example, str(tmp_path / "p.onnx"), dynamo=False, opset_version=17, input_names=names)
    with pytest.raises(UnsupportedLayerError, match=r"graph.input \(.*\).*diffusion and flow matching"):
        load_actor(tmp_path / "p.onnx")


class Hyper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(self.weights(x[:, :3]).reshape(-1, 2, 3), x[:, 3:, None])[..., 0]


def test_weights_that_another_network_makes_are_no_attention(tmp_path: Path) -> None:
    for source in containers(Hyper(), tmp_path):
        with pytest.raises(UnsupportedLayerError, match="networks that make weights") as caught:
            load_actor(source)
        assert caught.value.kind == "matmul"


class Sum(nn.Module):
    def __init__(self, equation: str, weight: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.equation, self.weight, self.last = equation, nn.Parameter(weight), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        shaped = x if self.equation.startswith("bi,") else x.reshape(-1, 3, 2)
        return self.last(torch.tanh(torch.einsum(self.equation, shaped, self.weight)).flatten(1))


@pytest.mark.parametrize(
    ("equation", "shape"), [("bi,oi->bo", (8, 6)), ("bi,eoi->beo", (4, 2, 6)), ("btd,tdo->bo", (3, 2, 8))]
)
def test_einsum_with_weights_is_a_linear_map(equation: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Sum(equation, torch.randn(shape)).eval()
    obs = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source, observation_shape=(6,))
        actor.reset(num_envs=64)
        assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


@pytest.mark.parametrize("equation", ["...i,oi->...o", "bi,oi", "bii,oi->bo"])
def test_an_einsum_that_is_no_such_map_is_one_line(equation: str, tmp_path: Path) -> None:
    from tests.onnx_graphs import graph, node

    nodes = [node("Einsum", "obs", "W", "h", equation=equation), node("MatMul", "h", "V", "action")]
    path = graph(nodes, tmp_path / "p.onnx", W=np.ones((8, 6), np.float32), V=np.ones((8, 3), np.float32))
    with pytest.raises(ValueError, match=r".") as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)
