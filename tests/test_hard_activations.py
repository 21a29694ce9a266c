"""Hard swish and hard sigmoid, by name or spelled out, are read from every container; others that fold or sum, too."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from onnx import TensorProto, helper, save  # noqa: E402
from torch import nn  # noqa: E402

from snn_policy import SpikingPolicy, convert, load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402
from tests.actors import walk  # noqa: E402
from tests.containers import containers  # noqa: E402
from tests.test_hidden_clips import Around  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SLOPES = torch.linspace(-0.5, 0.6, 8)
SWISH, SIGMOID = ["hardswish"], ["clip"]
BODIES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "Hardswish": (nn.Hardswish(), SWISH), "hardswish": (F.hardswish, SWISH),
    "x·relu6(x + 3)/6": (lambda x: x * F.relu6(x + 3) / 6, SWISH),
    "x·hardsigmoid(x)": (lambda x: F.hardsigmoid(x) * x, SWISH),
    "x·clamp(x + 3)/6": (lambda x: x * ((x + 3).clamp(0.0, 6.0) / 6.0), SWISH),
    "x·clamp(x/6 + ½)": (lambda x: x * torch.clamp(x / 6 + 0.5, 0.0, 1.0), SWISH),
    "of another slope": (lambda x: x * torch.clamp(0.2 * x + 0.5, 0.0, 1.0) * -2.0, SWISH),
    "of a scaled value": (lambda x: (x * 0.5) * F.relu6(x * 0.5 + 3) / 6, SWISH),
    "residual": (lambda x: x + F.hardswish(x), SWISH),
    "Hardsigmoid": (nn.Hardsigmoid(), SIGMOID), "hardsigmoid": (F.hardsigmoid, SIGMOID),
    "relu6(x + 3)/6": (lambda x: F.relu6(x + 3) / 6, SIGMOID),
    "clamp(0.2·x + ½)": (lambda x: torch.clamp(0.2 * x + 0.5, 0.0, 1.0), SIGMOID),
    "LogSigmoid": (nn.LogSigmoid(), ["softplus"]), "log(sigmoid)": (lambda x: x.sigmoid().log(), ["softplus"]),
    "swish of 1.7": (lambda x: x * torch.sigmoid(1.7 * x), ["silu"]),
    "Tanhshrink": (nn.Tanhshrink(), ["tanh"]), "LeakyReLU": (nn.LeakyReLU(-0.2), ["leaky_relu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_every_container_is_read_and_acts_alike(name: str, tmp_path: Path) -> None:
    body, expected = BODIES[name]
    module = Around(body).eval()
    obs = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32) * 4
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source)
        found = [stage.cell.activation.name for stage in actor.graph.stages if stage.cell.activation]  # pyright: ignore
        assert found == expected
        actor.reset(num_envs=64)
        assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


@pytest.mark.parametrize(
    "gate", [lambda x: torch.clamp(x / 6 + 0.4, 0.0, 1.0), lambda x: F.relu6(x + 2) / 6, lambda x: x.clamp(-0.5, 0.5)]
)
def test_a_gate_that_is_not_symmetric_stays_a_product(gate: Any, tmp_path: Path) -> None:
    module = Around(lambda x: x * gate(x)).eval()
    obs = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32) * 4
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source)
        assert "product" in [stage.cell.kind for stage in actor.graph.stages]
        actor.reset(num_envs=64)
        assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


class Channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.slopes = nn.Linear(6, 8), nn.Linear(8, 3), nn.PReLU(8)
        self.slopes.weight.data = SLOPES.clone()

    def forward(self, x: Any) -> Any:
        return self.last(self.slopes(self.first(x)))


def test_slopes_of_channels_are_a_residual_relu(tmp_path: Path) -> None:
    module = Channels().eval()
    obs = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32) * 4
    own = module(torch.as_tensor(obs)).detach().numpy()
    for source in containers(module, tmp_path):
        actor = load_actor(source)
        actor.reset(num_envs=64)
        assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


@pytest.mark.parametrize(("slope", "offset"), [(None, None), (1 / 6, 0.5), (0.3, 0.1), (-0.25, 0.5)])
@pytest.mark.parametrize("swish", [False, True])
def test_onnx_operators_keep_their_slope_and_offset(
    slope: float | None, offset: float | None, swish: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    first, last = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 8), (8, 3)))
    given = {} if slope is None else {"alpha": slope, "beta": offset}
    nodes = [helper.make_node("MatMul", ["obs", "A"], ["z"]), helper.make_node("HardSigmoid", ["z"], ["g"], **given),
             helper.make_node("Mul", ["z", "g"], ["s"]),
             helper.make_node("MatMul", ["s" if swish else "g", "B"], ["actions"])]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in
            (("obs", 6), ("actions", 3))]  # fmt: skip
    held = [helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.ravel()) for name, values in
            (("A", first), ("B", last))]  # fmt: skip
    if not swish:
        del nodes[2]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "p.onnx"))
    actor = load_actor(tmp_path / "p.onnx")
    obs = rng.standard_normal((64, 6)).astype(np.float32) * 3
    z = obs @ first
    gate = np.clip((0.2 if slope is None else slope) * z + (0.5 if offset is None else offset), 0, 1)
    own = ((z * gate) if swish else gate) @ last
    actor.reset(num_envs=64)
    assert abs(actor.act(obs) - own).max() <= 1e-5 * abs(own).max()


def test_hard_swish_decides_alike_in_every_engine_and_bundle(tmp_path: Path) -> None:
    recording = np.random.default_rng(0).standard_normal((800, 6)).cumsum(0) * 0.05
    module = Around(nn.Hardswish()).eval()
    compiled, plain = (convert(load_actor(module), recording, engine=engine) for engine in ("event", "numpy"))
    compiled.save(tmp_path)
    again = SpikingPolicy.load(tmp_path)
    actions = [np.array([policy.act(obs) for obs in recording[:300]]) for policy in (compiled, plain, again)]
    assert np.array_equal(actions[0], actions[2])
    assert np.mean(abs(actions[0] - actions[1]).max(-1) < 1e-4) > 0.97
    own = module(torch.as_tensor(recording[:300].astype(np.float32))).detach().numpy()
    assert abs(actions[0] - own).mean() < 0.05 * np.abs(own).max()


REFUSED = {
    "Hardshrink": nn.Hardshrink(0.3), "Threshold": nn.Threshold(0.1, -0.2),
    "Squareplus": lambda x: (x + torch.sqrt(x * x + 4.0)) / 2, "Softplus": nn.Softplus(1.0, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_activations_that_stay_refused_are_named(name: str, tmp_path: Path) -> None:
    module = Around(REFUSED[name]).eval()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(module, torch.zeros(1, 6)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    for source in (module, tmp_path / "p.pt"):
        with pytest.raises(UnsupportedLayerError, match=f"(?i){name}") as error:
            load_actor(source)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "logsigmoid"])
def test_checkpoints_know_their_names(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(11, 8), {"hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid,
                                           "logsigmoid": nn.LogSigmoid}[name](), nn.Linear(8, 3))  # fmt: skip
    weights = {f"actor.{key}": value for key, value in net.state_dict().items()}
    actor, obs = load_actor(weights, activation=name), walk(1)[0][None].astype(np.float32)
    assert abs(actor.act(obs) - net(torch.as_tensor(obs)).detach().numpy()).max() <= 1e-6
