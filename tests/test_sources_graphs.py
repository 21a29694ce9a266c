"""Policies that are no chain of layers act as their source does: torch modules, TorchScript, ONNX."""

import copy
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from snn_policy import Actor, load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402
from tests.robot_policies import FEED_FORWARD, RECURRENT, Look, WithStates, made, mlp  # noqa: E402

DECISIONS = 200
Run = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore")


def options(look: Look) -> dict[str, Any]:
    shapes = look.shapes
    return {"observation_shape": shapes if len(shapes) > 1 else next(iter(shapes.values()))} if look.given else {}


def of_torch(program: Any) -> Run:
    def run(*parts: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return program(*map(torch.as_tensor, parts)).numpy()

    return run


def as_module(look: Look, path: Path) -> tuple[Actor, Run]:
    module = made(look)
    return load_actor(module, **options(look)), of_torch(module)


def as_script(look: Look, path: Path) -> tuple[Actor, Run]:
    program = torch.jit.script(made(look))
    program.save(str(path / "policy.pt"))
    return load_actor(path / "policy.pt", **options(look)), of_torch(program)


def as_trace(look: Look, path: Path) -> tuple[Actor, Run]:
    module = made(look)
    program = torch.jit.trace(copy.deepcopy(module), tuple(torch.zeros(1, *shape) for shape in look.shapes.values()))
    for name, buffer in program.named_buffers():
        buffer.copy_(module.get_buffer(name))
    program.save(str(path / "policy.pt"))
    return load_actor(path / "policy.pt", **options(look)), of_torch(program)


def as_onnx(opset: int) -> Callable[[Look, Path], tuple[Actor, Run]]:
    def read(look: Look, path: Path) -> tuple[Actor, Run]:
        inputs = tuple(torch.zeros(1, *shape) for shape in look.shapes.values())
        names = {"input_names": list(look.shapes), "output_names": ["actions"]}
        torch.onnx.export(made(look), inputs, str(path / "p.onnx"), dynamo=False, opset_version=opset, **names)
        session = onnxruntime.InferenceSession(str(path / "p.onnx"))
        actor = load_actor(path / "p.onnx")
        return actor, lambda *parts: session.run(None, dict(zip(look.shapes, parts, strict=True)))[0]

    return read


CONTAINERS = {
    "module": as_module,
    "script": as_script,
    "trace": as_trace,
    "onnx 13": as_onnx(13),
    "onnx 17": as_onnx(17),
}


def difference(actor: Actor, run: Run, shapes: dict[str, tuple[int, ...]], decisions: int, seed: int = 1) -> float:
    """The largest difference of consecutive actions, relative to the largest action."""
    rng, worst, largest = np.random.default_rng(seed), 0.0, 0.0
    for _ in range(decisions):
        parts = [rng.standard_normal((1, *shape)).astype(np.float32) for shape in shapes.values()]
        flat = np.concatenate([part.reshape(1, -1) for part in parts], axis=1)
        own = run(*parts)
        action = actor.act(flat.reshape(1, *actor.observation_shape))
        worst, largest = max(worst, float(np.abs(action - own).max())), max(largest, float(np.abs(own).max()))
    return worst / largest


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", FEED_FORWARD)
def test_every_structure_acts_as_its_source(name: str, container: str, tmp_path: Path) -> None:
    look = FEED_FORWARD[name]
    actor, run = CONTAINERS[container](look, tmp_path)
    assert difference(actor, run, look.shapes, 10) <= 1e-5
    assert not actor.recurrent


LOST = {("normalised lstm", "trace"), ("frames", "trace")}
"""Modules that assign their state anew, which a trace does not record."""


@pytest.mark.parametrize("container", ["module", "script", "trace"])
@pytest.mark.parametrize("name", RECURRENT)
def test_every_recurrent_structure_acts_as_its_source(name: str, container: str, tmp_path: Path) -> None:
    if (name, container) in LOST:
        pytest.skip("a trace forgets what is assigned")
    look = RECURRENT[name]
    actor, run = CONTAINERS[container](look, tmp_path)
    assert actor.recurrent
    assert difference(actor, run, look.shapes, DECISIONS) <= 1e-5  # from a reset
    assert difference(actor, run, look.shapes, 50, seed=2) <= 1e-5  # from a running state


def test_a_trace_that_lost_its_state_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"memory \(LSTM\).*it would forget at every step"):
        as_trace(RECURRENT["normalised lstm"], tmp_path)


def test_a_running_state_is_left_behind_by_the_modules_own_reset(tmp_path: Path) -> None:
    module = made(RECURRENT["lstm"])
    module(torch.randn(1, 47))
    torch.jit.script(module).save(str(tmp_path / "p.pt"))
    fresh = made(RECURRENT["lstm"])
    for source in (module, tmp_path / "p.pt"):
        assert difference(load_actor(source), of_torch(copy.deepcopy(fresh)), {"obs": (47,)}, 20) <= 1e-5


def test_a_learned_start_is_told_and_kept(tmp_path: Path) -> None:
    actor, _ = as_module(RECURRENT["gru"], tmp_path)
    gru = next(stage for stage in actor.graph.stages if stage.cell.kind == "gru")
    learned = made(RECURRENT["gru"]).get_parameter("initial").detach().numpy()[0]
    assert gru.start is not None
    assert np.allclose(gru.start, learned)
    assert np.allclose(gru.cell.start, learned)  # pyright: ignore
    assert not any(np.any(part) for part in actor.initial_state(1))


class LstmCell(nn.Module):
    """Which exporters spell out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.LSTMCell(12, 10), nn.Linear(10, 3)

    def forward(self, obs: Any, h: Any, c: Any) -> Any:
        h, c = self.cell(obs, (h, c))
        return self.last(h), h, c


class GruCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(12, 10), nn.Linear(10, 3)

    def forward(self, obs: Any, h: Any) -> Any:
        h = self.cell(obs, h)
        return self.last(h), h


class OneMemory(nn.Module):
    """As ML-Agents has it: h and c in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rnn, self.last = nn.Linear(11, 8), nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, obs: Any, memory: Any) -> Any:
        h, c = torch.split(memory, 16, dim=-1)
        out, (h, c) = self.rnn(F.relu(self.first(obs)).reshape(-1, 1, 8), (h.contiguous(), c.contiguous()))
        return torch.clamp(self.last(out.reshape(-1, 16)), -3, 3) / 3, torch.cat([h, c], dim=-1)


def stateful(rnn: nn.Module, head: nn.Module) -> Callable[[], nn.Module]:
    return lambda: WithStates(rnn, head)


PAIR = ["h_%s", "c_%s"]
STATES: dict[str, tuple[Callable[[], nn.Module], int, list[tuple[int, ...]], list[str], str]] = {
    "lstm": (stateful(nn.LSTM(47, 64), mlp(64, 32, 12)), 47, [(1, 1, 64)] * 2, PAIR, "lstm"),
    "two layers": (stateful(nn.LSTM(30, 24, 2), mlp(24, 12)), 30, [(2, 1, 24)] * 2, PAIR, "lstm"),
    "gru": (stateful(nn.GRU(20, 24), mlp(24, 12)), 20, [(1, 1, 24)], ["hidden_%s"], "gru"),
    "elman": (stateful(nn.RNN(20, 9), mlp(9, 5)), 20, [(1, 1, 9)], ["rnn_state_%s"], "tanh"),
    "spelled lstm": (LstmCell, 12, [(1, 10)] * 2, PAIR, "lstm"),
    "spelled gru": (GruCell, 12, [(1, 10)], ["h_%s"], "gru"),
    "one memory": (OneMemory, 11, [(1, 1, 32)], ["recurrent_%s"], "lstm"),
}


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", STATES)
def test_onnx_graphs_with_states_as_inputs_and_outputs_remember(name: str, opset: int, tmp_path: Path) -> None:
    make, size, shapes, names, cell = STATES[name]
    torch.manual_seed(0)
    inputs, outputs = ["obs", *(one % "in" for one in names)], ["actions", *(one % "out" for one in names)]
    given = (torch.zeros(1, size), *(torch.zeros(shape) for shape in shapes))
    path = tmp_path / "p.onnx"
    torch.onnx.export(make().eval(), given, str(path), input_names=inputs, output_names=outputs, dynamo=False,
                      opset_version=opset)  # fmt: skip
    session, states = onnxruntime.InferenceSession(str(path)), [np.zeros(shape, np.float32) for shape in shapes]

    def run(obs: np.ndarray) -> np.ndarray:
        action, *states[:] = session.run(None, dict(zip(inputs, [obs, *states], strict=True)))
        return action

    actor = load_actor(path)
    assert difference(actor, run, {"obs": (size,)}, DECISIONS) <= 1e-5
    assert cell in {stage.cell.kind for stage in actor.graph.stages}


def test_parallel_branches_cost_what_they_cost_apart(tmp_path: Path) -> None:
    actor, _ = as_module(FEED_FORWARD["parallel"], tmp_path)
    assert actor.dense_macs == 920_192
    assert actor.synapses == 920_192


def test_a_residual_stream_is_computed_once(tmp_path: Path) -> None:
    graph = as_module(FEED_FORWARD["simba"], tmp_path)[0].graph
    own = 17 * 64 + 3 * (64 * 256 + 256 * 64) + 64 * 6
    norms = 4 * 3 * 64
    assert graph.macs == own + norms


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x * torch.sigmoid(x), lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: x * torch.tanh(F.softplus(x)), lambda x: x / (1 + torch.abs(x)),
        lambda x: torch.log(1 + torch.exp(x)), lambda x: 1 / (1 + torch.exp(-x)),
    ],
)  # fmt: skip
def test_activations_that_are_spelled_out_are_one_stage(body: Any) -> None:
    module = Around(body)
    actor = load_actor(module)
    assert len(actor.graph.stages) == 2
    assert difference(actor, of_torch(module), {"x": (8,)}, 20) <= 1e-5


class Around(nn.Module):
    """A function between two linear layers."""

    def __init__(self, body: Any, inner: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.body = nn.Linear(8, 8), nn.Linear(inner, 3), body

    def forward(self, x: Any) -> Any:
        return self.last(self.body(self.first(x)))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (lambda h: F.layer_norm(h, (8,)), "layer norm"),
        (lambda h: (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, keepdim=True, unbiased=False) + 1e-5),
         "layer norm"),
        (lambda h: (h - h.mean(-1, True)) * torch.rsqrt(((h - h.mean(-1, True)) ** 2).mean(-1, True) + 1e-5),
         "layer norm"),
        (lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6), "rms norm"),
        (lambda h: F.rms_norm(h, (8,)), "rms norm"), (lambda h: F.normalize(h, dim=-1), "l2 norm"),
        (lambda h: h / h.norm(dim=-1, keepdim=True).clamp(min=1e-12), "l2 norm"),
        (lambda h: h / (h.norm(dim=-1, keepdim=True) + 1e-8), "l2 norm"),
        (lambda h: h / torch.sqrt((h * h).sum(-1, keepdim=True)), "l2 norm"),
    ],
)  # fmt: skip
def test_norms_are_read_however_they_are_written(body: Any, kind: str) -> None:
    module = Around(body)
    actor = load_actor(module)
    assert [stage.cell.kind for stage in actor.graph.stages] == [kind, "linear"]
    assert difference(actor, of_torch(module), {"x": (8,)}, 20) <= 1e-5


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x + F.relu(x), lambda x: x + x, lambda x: x * x.tanh(), lambda x: x**2, lambda x: x.tanh().relu(),
        lambda x: torch.cat([x[..., :4], x[..., 4:].tanh()], -1), lambda x: x - x.mean(-1, keepdim=True),
        lambda x: F.glu(torch.cat([x, x], -1)), lambda x: x.flip(-1).tanh(), lambda x: torch.roll(x, 3, -1) + x.tanh(),
        lambda x: x[:, [7, 6, 5, 4, 3, 2, 1, 0]].tanh() + x,
        lambda x: torch.stack([x[:, 0::2], x[:, 1::2]], 1).flatten(1).tanh() * 2 + x,
    ],
)  # fmt: skip
def test_junctions_are_read(body: Any) -> None:
    module = Around(body)
    assert difference(load_actor(module), of_torch(module), {"x": (8,)}, 20) <= 1e-5


ODD: dict[str, tuple[Any, str]] = {
    "attention": (lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0], "attention"),
    "branch": (lambda x: x.tanh() + x if x.sum() > 0 else x, "branch"),
    "experts": (lambda x: x.topk(8, -1)[0] + x, "mixture of experts"),
    "weighed experts": (lambda x: F.softmax(x, -1) * x.tanh(), "mixture of experts"),
    "beta head": (lambda x: (x.tanh() + 2) / (x.tanh() + 4 + x.mul(2).tanh()), r"Beta head.*Beta distribution"),
    "sine": (lambda x: torch.sin(x) + x, "sin"),
    "two-sided product": (lambda x: (x[:, :, None] @ x[:, None, :]).sum(-1), "attention"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_stays_refused_is_named(name: str) -> None:
    body, reason = ODD[name]
    with pytest.raises(UnsupportedLayerError, match=reason):
        load_actor(Around(body))


def test_inputs_with_names_are_a_dictionary_where_their_shapes_are_given() -> None:
    look = FEED_FORWARD["two inputs"]
    module = made(look)
    actor = load_actor(module, observation_shape=look.shapes)
    rng = np.random.default_rng(0)
    parts = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in look.shapes.items()}
    own = of_torch(module)(*(part[None] for part in parts.values()))[0]
    assert np.abs(actor.act(parts) - own).max() <= 1e-5  # pyright: ignore
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_actor(made(FEED_FORWARD["joined"])).observation_shape == (145,)


@pytest.mark.parametrize("container", ["module", "script", "trace"])
def test_a_size_that_follows_from_nothing_is_asked_for(container: str, tmp_path: Path) -> None:
    look = FEED_FORWARD["parkour"]
    with pytest.raises(UnsupportedLayerError, match=r"pass observation_shape=\{'obs': \(n,\), 'depth': \(n,\)\}"):
        CONTAINERS[container](Look(look.make, look.shapes), tmp_path)
    for given in (look.shapes, (785,)):  # or the number of all values, from which the rest follows
        assert load_actor(made(look), observation_shape=given).observation_shape == (785,)


def test_the_last_entries_of_an_observation_do_not_tell_its_size() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(12, 16, 3)

        def forward(self, x: Any) -> Any:
            return self.body(torch.cat((x[:, :2], x[:, -10:]), dim=-1))

    with pytest.raises(UnsupportedLayerError, match=r"pass observation_shape=\(n,\)"):
        load_actor(Last())
    assert load_actor(Last(), observation_shape=(15,)).observation_shape == (15,)
