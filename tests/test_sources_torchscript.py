"""TorchScript archives are followed without being run, and act as their programs do."""

# pyright: reportOperatorIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportIncompatibleMethodOverride=false

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from snn_policy.untrusted_files import LARGEST_WEIGHTS

warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ELU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class Normaliser(nn.Module):
    """rsl_rl's: (x − mean) / (std + 0.01)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.eps = 1e-2
        self.register_buffer("_mean", torch.randn(1, size))
        self.register_buffer("_std", torch.rand(1, size) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self._mean) / (self._std + self.eps)


class IsaacLab(nn.Module):
    """Isaac Lab's exporter: a normaliser, then the actor; `reset` does nothing."""

    def __init__(self, normaliser: nn.Module) -> None:
        super().__init__()
        self.normalizer, self.actor = normaliser, mlp(48, 32, 24, 16, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(self.normalizer(x))

    @torch.jit.export
    def reset(self) -> None:
        pass


class ActorCritic(nn.Module):
    """An actor whose critic, with a LayerNorm and a concatenation, is dead code."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = mlp(10, 16, 4, activation=nn.SiLU), mlp(20, 8, 1)
        self.norm, self.std = nn.LayerNorm(20), nn.Parameter(torch.ones(4))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        value = self.critic(self.norm(torch.cat([obs, obs], -1)))
        assert value is not None
        return torch.tanh(self.actor(obs)) * 2.0 - 0.5


class Written(nn.Module):
    """Functions instead of layers, scales, a clamp, and rows made flat."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(9, 16), nn.Linear(16, 5)
        self.register_buffer("scale", torch.rand(9) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.clamp(x.float().view(x.shape[0], -1) * self.scale, -5.0, 5.0)
        x = nn.functional.leaky_relu(self.first(x), 0.2, inplace=True)
        return torch.clamp(self.last(x), -1.0, 1.0)[:, 1:4].detach()


class Checked(nn.Module):
    """A program that looks at the shape of what it is given, and loops over its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.out = nn.ModuleList([nn.Linear(7, 8), nn.Linear(8, 8)]), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 1:
            x = x.unsqueeze(0)
        if x.shape[-1] != 7:
            raise ValueError("seven sensors")
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(x.reshape(-1, 8))


class Gated(nn.Module):
    """SiLU, spelled out forty times: a check that follows every path would never end."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.last = nn.ModuleList([nn.Linear(4, 4) for _ in range(40)]), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
            x = x * torch.sigmoid(x)
        return self.last(x)


class Folding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3),
                                 nn.Sigmoid())  # fmt: skip
        norm: Any = self.net[1]
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


LIKE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "legged_gym": (lambda: mlp(45, 32, 16, 12), 45),
    "isaac lab": (lambda: IsaacLab(Normaliser(48)), 48),
    "isaac lab, identity": (lambda: IsaacLab(nn.Identity()), 48),
    "graph module": (lambda: torch.fx.symbolic_trace(IsaacLab(Normaliser(48))), 48),
    "actor critic": (ActorCritic, 10),
    "functions": (Written, 9),
    "checks": (Checked, 7),
    "gates": (Gated, 4),
    "batch norm": (Folding, 6),
}


def saved(module: nn.Module, path: Path, how: str, size: int) -> Any:
    module = module.eval()
    with warnings.catch_warnings(action="ignore"):
        if how == "traced":
            scripted: Any = torch.jit.trace(module, torch.randn(1, size), check_trace=False)
        else:
            scripted = torch.jit.script(module)
            scripted = torch.jit.freeze(scripted) if how == "frozen" else scripted
        scripted.save(str(path))
    return scripted


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize("name", LIKE)
def test_look_alikes_act_as_their_programs_do(tmp_path: Path, name: str, how: str) -> None:
    torch.manual_seed(0)
    make, size = LIKE[name]
    program = saved(make(), tmp_path / "policy.pt", how, size)
    actor = load_actor(tmp_path / "policy.pt")
    assert actor.observation_shape == (size,)
    assert actor.name == "policy"
    obs = np.random.default_rng(0).standard_normal((50, size)).astype(np.float32)
    with torch.no_grad():
        own = np.concatenate([program(torch.as_tensor(row[None])).numpy() for row in obs])
    assert np.abs(actor.step(obs, ())[0] - own).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize("ending", ["policy.jit", "policy.pth", "policy.zip", "policy"])
def test_archives_are_known_by_what_they_hold(tmp_path: Path, ending: str) -> None:
    saved(mlp(5, 8, 2), tmp_path / ending, "scripted", 5)
    assert load_actor(tmp_path / ending, low=-1, high=1).high.tolist() == [1, 1]


def test_images_need_their_size_and_act_alike(tmp_path: Path) -> None:
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
            self.out = nn.Linear(36, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.trunk(x / 255.0 - 0.5))

    program = saved(Pixels(), tmp_path / "p.pt", "scripted", 0)
    with pytest.raises(SourceError, match=r"observation_shape=\(3, height, width\)"):
        load_actor(tmp_path / "p.pt")
    actor = load_actor(tmp_path / "p.pt", observation_shape=(3, 11, 11))
    obs = np.random.default_rng(0).integers(0, 255, (8, 3, 11, 11)).astype(np.float32)
    with torch.no_grad():
        own = program(torch.as_tensor(obs)).numpy()
    assert np.abs(actor.step(obs, ())[0] - own).max() < 1e-5


class Several(nn.Module):
    def __init__(self, key: str = "action") -> None:
        super().__init__()
        self.net, self.value = mlp(4, 8, 2), mlp(4, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value = self.value(x)
        actions = torch.tanh(self.net(x))
        return value, actions


class Keyed(Several):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mu": self.net(x), "value": self.value(x)}


class Plain(Several):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(x), self.value(x)


def test_of_several_results_the_action_is_told_by_name_or_asked_for(tmp_path: Path) -> None:
    for name, module in (("t.pt", Several()), ("d.pt", Keyed())):
        saved(module, tmp_path / name, "scripted", 4)
        with pytest.warns(UserWarning, match=r"the output (actions|mu) is taken"):
            assert load_actor(tmp_path / name).head.outputs == 2
        assert load_actor(tmp_path / name, output="value").head.outputs == 1
    saved(Plain(), tmp_path / "p.pt", "scripted", 4)
    with pytest.raises(SourceError, match=r"several values: 0 \(2,\), 1 \(1,\); pass output="):
        load_actor(tmp_path / "p.pt")
    assert load_actor(tmp_path / "p.pt", output="0").head.outputs == 2
    with pytest.raises(SourceError, match=r"output 'q': expected one of 0, 1"):
        load_actor(tmp_path / "p.pt", output="q")


class Recurrent(nn.Module):
    """A cell whose state lies in buffers, as legged_gym and Isaac Lab export it."""

    def __init__(self, kind: Any, states: int) -> None:
        super().__init__()
        self.rnn, self.out = kind(6, 5), nn.Linear(5, 2)
        self.register_buffer("hidden_state", torch.zeros(1, 1, 5))
        self.register_buffer("cell_state", torch.zeros(1, 1, 5))


class Lstm(Recurrent):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, (h, c) = self.rnn(x.unsqueeze(0), (self.hidden_state, self.cell_state))
        self.hidden_state[:] = h
        self.cell_state[:] = c
        return self.out(out.squeeze(0))

    @torch.jit.export
    def reset_memory(self) -> None:
        self.hidden_state[:] = 0.0


class Gru(Recurrent):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, h = self.rnn(x.unsqueeze(0), self.hidden_state)
        self.hidden_state = h
        return self.out(out.squeeze(0))


class History(nn.Module):
    """A buffer of the last observations, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(6, 8, 2)
        self.register_buffer("last", torch.zeros(1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.last * 0.5
        self.last.copy_(x)
        return self.net(mixed)


class Smoothed(nn.Module):
    """An attribute that is replaced at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(6, 8, 2)
        self.before = torch.zeros(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        action = self.net(x) * 0.8 + self.before
        self.before = action
        return action


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.actor = mlp(6, 8, 3), mlp(9, 8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(torch.cat([x, self.encoder(x)], dim=-1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = mlp(6, 8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x + self.inner(x))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(9, 8, 2)

    def forward(self, state: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([state, goal], dim=-1))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(6, 8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x[0, 0] > 0):
            x = -x
        return self.net(x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "branches": (Branches, r"\(gt\)|makes a number of the observation"),
    "softmax": (lambda: nn.Sequential(nn.Linear(6, 2), nn.Softmax(-1)), r"1 \(softmax\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    saved(make(), tmp_path / "p.pt", "scripted", 6)
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        load_actor(tmp_path / "p.pt", observation_shape=(6,))
    assert "\n" not in str(caught.value)
    with pytest.raises((UnsupportedLayerError, SourceError)):
        load_actor(tmp_path / "p.pt")


GRAPHS: dict[str, tuple[Callable[[], nn.Module], int | None]] = {
    "lstm": (lambda: Lstm(nn.LSTM, 2), None), "gru": (lambda: Gru(nn.GRU, 1), None), "history": (History, 6),
    "smoothed": (Smoothed, None), "residual": (Residual, None), "concatenation": (Joined, None),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ELU(), nn.Linear(8, 2)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_no_chain_acts_as_its_program(tmp_path: Path, name: str) -> None:
    make, width = GRAPHS[name]
    saved(make(), tmp_path / "p.pt", "scripted", 6)
    actor = load_actor(tmp_path / "p.pt", observation_shape=None if width is None else (width,))
    program = torch.jit.load(str(tmp_path / "p.pt"))
    for row in torch.randn(40, 1, 6):
        with torch.no_grad():
            assert np.abs(actor.act(row.numpy()) - program(row).numpy()).max() <= 1e-5


def test_inputs_that_are_only_joined_are_one_observation(tmp_path: Path) -> None:
    torch.jit.script(TwoInputs()).save(str(tmp_path / "p.pt"))
    assert load_actor(tmp_path / "p.pt").observation_shape == (9,)


def test_a_memory_that_the_action_does_not_read_is_dead_code(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.steps = mlp(6, 8, 2), 0
            self.register_buffer("seen", torch.zeros(1, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.steps = self.steps + 1
            self.seen.copy_(x)
            return self.net(x)

    saved(Counting(), tmp_path / "p.pt", "scripted", 6)
    assert load_actor(tmp_path / "p.pt").observation_shape == (6,)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in more.items():
            new.writestr(name, content)
    return target


def is_member(name: str, member: str) -> bool:
    """Whether it is this member; a program's is numbered where others of its name came before."""
    return f"/{member}" in name and name.endswith(".py") if member == CODE else name.endswith(f"/{member}")


CODE = "code/__torch__/torch/nn/modules/container"
HOSTILE: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "no program": (CODE, lambda _: None, "no forward|does not define"),
    "no Python": (CODE, lambda _: b"class (", "not a readable TorchScript archive"),
    "deeply nested": (CODE, lambda _: b"x = " + b"(" * 50_000, "not a readable TorchScript archive"),
    "endless": (CODE, lambda text: text.replace(b"_0 = ", b"while True:\n      pass\n    _0 = ", 1), "loop"),
    "calls itself": (CODE, lambda text: text.replace(b"(_1).forward", b"(self).forward"), "too deeply"),
    "imports": (CODE, lambda text: text.replace(b"    _0 = getattr", b"    import os\n    _0 = getattr", 1), "Import"),
    "evaluates": (CODE, lambda text: text.replace(b'getattr(self, "0")', b'eval("0")'), "calls eval"),
    "huge constant": (CODE, lambda text: text.replace(b"(_0).forward(input, )",
                      b"torch.add(input, torch.zeros([1000000, 1000000]))"), "more than .* values; refused"),
    "large program": (CODE, lambda text: text + b"#" * 2**22, "unpacks to more than 2 MB"),
    "pickled code": ("data.pkl", lambda _: b"cos\nsystem\n(S'true'\ntR.", r"holds os\.system.*refused"),
    "not a module": ("data.pkl", lambda _: pickle.dumps(3, 2), "root is a int, not a module"),
    "cut weights": ("data/0", lambda content: content[:-8], "does not fit its"),
    "no weights": ("data/0", lambda _: None, "no 'data/0' inside"),
    "missing names": (CODE, lambda text: text.replace(b'"0")', b'"9")'), "has no attribute 9"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_forged_archives_are_one_clear_line(tmp_path: Path, name: str) -> None:
    saved(mlp(5, 8, 2), tmp_path / "right.pt", "scripted", 5)
    member, change, message = HOSTILE[name]
    path = rewritten(tmp_path / "right.pt", tmp_path / "p.pt",
                     lambda where, content: change(content) if is_member(where, member) else content)  # fmt: skip
    with pytest.raises((SourceError, UnsupportedLayerError), match=message) as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)


def test_names_that_leave_the_folder_and_bombs_are_refused(tmp_path: Path) -> None:
    saved(mlp(5, 8, 2), tmp_path / "right.pt", "scripted", 5)
    for name in ("../../evil", "right/../../data/0", "/etc/passwd"):
        path = rewritten(tmp_path / "right.pt", tmp_path / "p.pt", lambda _, content: content, **{name: b""})
        with pytest.raises(SourceError, match="leaves its folder"):
            load_actor(path)
    bomb = zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with zipfile.ZipFile(tmp_path / "right.pt") as old, bomb as new:
        for name in old.namelist():
            new.writestr(name, bytes(LARGEST_WEIGHTS + 1) if name.endswith("/data/0") else old.read(name))
    with pytest.raises(SourceError, match="unpacks to more than"):
        load_actor(tmp_path / "b.pt")


def test_an_object_that_restores_itself_by_a_program_is_refused(tmp_path: Path) -> None:
    saved(mlp(5, 8, 2), tmp_path / "right.pt", "scripted", 5)
    text = b"\n  def __setstate__(self, state: Tensor) -> NoneType:\n    return None\n"
    path = rewritten(tmp_path / "right.pt", tmp_path / "p.pt",
                     lambda where, content: content + text if is_member(where, CODE) else content)  # fmt: skip
    with pytest.raises(UnsupportedLayerError, match="a program of its own, which is not run"):
        load_actor(path)


def test_archives_cut_anywhere_are_refused(tmp_path: Path) -> None:
    saved(mlp(5, 8, 2), tmp_path / "right.pt", "scripted", 5)
    whole = (tmp_path / "right.pt").read_bytes()
    for end in (10, len(whole) // 3, len(whole) // 2, len(whole) - 30):
        (tmp_path / "p.pt").write_bytes(whole[:end])
        with pytest.raises(SourceError, match=r"p\.pt"):
            load_actor(tmp_path / "p.pt")


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        module = mlp(5, 8, 2).to(kind)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(module), buffer)
        (tmp_path / "p.pt").write_bytes(buffer.getvalue())
        actor = load_actor(tmp_path / "p.pt")
        first: Any = module[0]
        assert np.array_equal(actor.layers[0].weight, first.weight.detach().float().numpy())
