"""Torch modules and TorchScript that take their recurrent state and return it act as they do, decision by decision."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple  # noqa: UP035

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from snn_policy import convert, load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402

SIZE, WIDTH, ACTIONS, DECISIONS = 12, 10, 3, 200
pytestmark = pytest.mark.filterwarnings("ignore")


class LstmPair(nn.Module):
    """A sequence of one, time first; the state is a pair."""

    def __init__(self, layers: int = 1, batch_first: bool = False) -> None:
        super().__init__()
        self.axis = 1 if batch_first else 0
        self.rnn, self.last = nn.LSTM(SIZE, WIDTH, layers, batch_first=batch_first), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, state: Tuple[Tensor, Tensor]):  # noqa: UP006
        out, state = self.rnn(obs.unsqueeze(self.axis), state)
        return torch.tanh(self.last(out.squeeze(self.axis))), state


class LstmFlat(LstmPair):
    def forward(self, obs: Tensor, h: Tensor, c: Tensor):  # pyright: ignore
        out, (h, c) = self.rnn(obs.unsqueeze(self.axis), (h, c))
        return self.last(out.squeeze(self.axis)), h, c


class GruFirst(nn.Module):
    """The state comes first, and a critic beside the action."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.rnn, self.mu, self.value = nn.GRU(SIZE, WIDTH, layers), nn.Linear(WIDTH, ACTIONS), nn.Linear(WIDTH, 1)

    def forward(self, obs: Tensor, hx: Tensor):
        out, hx = self.rnn(obs.unsqueeze(0), hx)
        return hx, {"value": self.value(out[0]), "action": self.mu(out[0])}


class GruSequence(nn.Module):
    """Batch first, with the axis of time in the observation."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.last = nn.GRU(SIZE, WIDTH, 2, batch_first=True), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, hidden: Tensor):
        out, hidden = self.rnn(obs, hidden)
        return self.last(out[:, -1]), hidden


class Cells(nn.Module):
    """Two cells under each other, their states in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.GRUCell(SIZE, WIDTH), nn.GRUCell(WIDTH, 7), nn.Linear(7, ACTIONS)

    def forward(self, obs: Tensor, states: List[Tensor]):  # noqa: UP006
        one = self.first(obs, states[0])
        two = self.second(one, states[1])
        return self.last(two), [one, two]


class LstmCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.cell, self.last = nn.Linear(SIZE, 8), nn.LSTMCell(8, WIDTH), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, state: Dict[str, Tensor]):  # noqa: UP006
        h, c = self.cell(torch.relu(self.body(obs)), (state["h"], state["c"]))
        return self.last(h), {"h": h, "c": c}


class Named(NamedTuple):
    hidden: Tensor
    action: Tensor


class OptionalGru(nn.Module):
    """The state need not be given; a named tuple is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(SIZE, WIDTH), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, hidden: Optional[Tensor] = None):  # noqa: UP045
        hidden = self.cell(obs, hidden)
        return Named(hidden, self.last(hidden))  # pyright: ignore


class LearnedStart(nn.Module):
    """A learned first state, where none is given."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, WIDTH))
        self.cell, self.last = nn.GRUCell(SIZE, WIDTH), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, h: Optional[Tensor] = None):  # noqa: UP045
        if h is None:
            h = self.start
        h = self.cell(obs, h)
        return self.last(h), h


class Gates(nn.Module):
    """A GRU in torch's operations: gates of one matrix, reset after the product."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.last = nn.Linear(SIZE, 3 * WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, h: Tensor):
        xr, xu, xn = self.x(obs).chunk(3, -1)
        hr, hu, hn = self.h(h).chunk(3, -1)
        reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xu + hu)
        h = (1 - update) * torch.tanh(xn + reset * hn) + update * h
        return self.last(h), h


class LstmGates(nn.Module):
    """An LSTM in torch's operations, h and c side by side in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.last = nn.Linear(SIZE, 4 * WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(WIDTH, ACTIONS)

    def forward(self, obs: Tensor, memory: Tensor):
        h, c = memory.chunk(2, -1)
        i, f, g, o = (self.x(obs) + self.h(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return self.last(h), torch.cat((h, c), -1)


class Elman(nn.Module):
    """A plain recurrence that tells its first state."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.last = nn.Linear(SIZE, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, ACTIONS)

    @torch.jit.export
    def initial_state(self) -> Tensor:
        return torch.full((1, self.h.out_features), 0.5)

    def forward(self, obs: Tensor, carry: Tensor):
        carry = torch.tanh(self.x(obs) + self.h(carry))
        return self.last(carry), carry


def states(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(shape) for shape in shapes)


H, ROW = (1, 1, WIDTH), (1, WIDTH)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], str]] = {
    "lstm": (LstmPair, (states(H, H),), "lstm"),
    "two layers, batch first": (lambda: LstmPair(2, True), (states((2, 1, WIDTH), (2, 1, WIDTH)),), "lstm"),
    "h and c": (LstmFlat, states(H, H), "lstm"),
    "h and c, two layers": (lambda: LstmFlat(2), states((2, 1, WIDTH), (2, 1, WIDTH)), "lstm"),
    "state first": (GruFirst, states(H), "gru"),
    "state first, two layers": (lambda: GruFirst(2), states((2, 1, WIDTH)), "gru"),
    "sequence": (GruSequence, states((2, 1, WIDTH)), "gru"),
    "cells": (Cells, (list(states(ROW, (1, 7))),), "gru"),
    "dictionary": (LstmCell, ({"h": torch.zeros(ROW), "c": torch.zeros(ROW)},), "lstm"),
    "optional": (OptionalGru, states(ROW), "gru"),
    "learned start": (LearnedStart, states(ROW), "gru"),
    "gates": (Gates, states(ROW), "gru"),
    "lstm gates": (LstmGates, states((1, 2 * WIDTH)), "lstm"),
    "elman": (Elman, (torch.full(ROW, 0.5),), "tanh"),
}
SCRIPTED = [name for name in MODULES if name != "state first" and name != "state first, two layers"]
TRACED = [
    name
    for name in MODULES
    if name not in ("optional", "learned start", "elman", "state first", "state first, two layers")
]


def made(name: str) -> tuple[nn.Module, tuple[Any, ...], tuple[int, ...]]:
    torch.manual_seed(0)
    make, first, _ = MODULES[name]
    module = make().eval()
    if name == "learned start":
        first = (module.get_parameter("start").detach(),)
    return module, copy.deepcopy(first), (1, 1, SIZE) if name == "sequence" else (1, SIZE)


def flat(value: Any) -> list[Tensor]:
    parts = value.values() if isinstance(value, dict) else value
    return [value] if isinstance(value, Tensor) else [leaf for part in parts for leaf in flat(part)]


def own(module: Any, first: tuple[Any, ...], shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """What the module itself makes of consecutive observations, its state passed on by hand."""
    held: list[Any] = list(first)

    def run(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result = module(torch.as_tensor(obs).reshape(shape), *held)
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            held[:] = [result[0]]
            return result[1].numpy()
        if isinstance(result[1], dict) and "action" in result[1]:
            held[:] = [result[0]]
            return result[1]["action"].numpy()
        held[:] = result[1:]
        return result[0].numpy()

    return run


def difference(actor: Any, run: Callable[[np.ndarray], np.ndarray], decisions: int, seed: int) -> float:
    rng, worst, largest = np.random.default_rng(seed), 0.0, 0.0
    for _ in range(decisions):
        obs = rng.standard_normal((1, SIZE)).astype(np.float32)
        wanted, action = run(obs).reshape(-1), actor.act(obs.reshape(1, *actor.observation_shape)).reshape(-1)
        worst, largest = max(worst, float(abs(action - wanted).max())), max(largest, float(abs(wanted).max()))
    return worst / largest


def agrees(source: Any, name: str, program: Any) -> None:
    _, first, shape = made(name)
    actor, run = load_actor(source), own(program, first, shape)
    assert actor.recurrent
    assert MODULES[name][2] in {stage.cell.kind for stage in actor.graph.stages}
    assert difference(actor, run, DECISIONS, 1) <= 1e-5  # from a reset
    assert difference(actor, run, 50, 2) <= 1e-5  # from a running state
    actor.reset()
    assert difference(actor, own(program, first, shape), 20, 3) <= 1e-5


@pytest.mark.parametrize("name", MODULES)
def test_a_module_acts_as_itself_with_its_state_passed_on(name: str) -> None:
    module = made(name)[0]
    agrees(module, name, copy.deepcopy(module))


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_acts_as_itself_with_its_state_passed_on(name: str, tmp_path: Path) -> None:
    program = torch.jit.script(made(name)[0])
    program.save(str(tmp_path / "p.pt"))
    agrees(tmp_path / "p.pt", name, program)


@pytest.mark.parametrize("name", TRACED)
def test_a_trace_acts_as_itself_with_its_state_passed_on(name: str, tmp_path: Path) -> None:
    module, first, shape = made(name)
    program = torch.jit.trace(module, (torch.zeros(shape), *first), strict=False)
    program.save(str(tmp_path / "p.pt"))
    agrees(tmp_path / "p.pt", name, program)


@pytest.mark.parametrize("name", ["lstm", "gates", "state first"])
def test_it_is_converted(name: str) -> None:
    actor = load_actor(made(name)[0])
    observations = np.random.default_rng(0).standard_normal((400, SIZE)).astype(np.float32)
    policy = convert(actor, observations, predictor=0)
    actor.reset()
    wanted = np.stack([actor.act(row) for row in observations[:100]])
    found = np.stack([policy.act(row) for row in observations[:100]])
    assert abs(found - wanted).mean() <= 0.05 * abs(wanted).max()


def test_the_state_is_told() -> None:
    with pytest.warns(UserWarning, match="its state is state, which starts from zeros"):
        load_actor(made("lstm")[0])
    with pytest.warns(UserWarning, match="its state is h, which starts from what the program starts it from"):
        load_actor(made("learned start")[0])


def test_a_second_observation_that_is_called_a_state_is_one() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(SIZE, WIDTH), nn.ELU(), nn.Linear(WIDTH, ACTIONS))

        def forward(self, image: Tensor, state: Tensor) -> Tensor:
            return self.body(torch.cat((image, state), -1))

    actor = load_actor(Joined(), observation_shape={"image": (7,), "state": (5,)})
    assert not actor.recurrent


class Odd(Gates):
    """A state of a size that no weight tells."""

    def forward(self, obs: Tensor, h: Tensor):
        inner = h[:, 3 : 3 + WIDTH]
        action, inner = Gates.forward(self, obs, inner)
        return action, torch.cat((h[:, :3], inner, h[:, 3 + WIDTH :]), -1)[:, :19]


def test_a_shape_that_nothing_tells_is_asked_for_and_taken() -> None:
    with pytest.raises((SourceError, UnsupportedLayerError), match=r"its state \(h\).*pass observation_shape="):
        load_actor(Odd(), observation_shape=(SIZE,))
    actor = load_actor(Odd(), observation_shape={"obs": (SIZE,), "h": (1, 19)})
    assert actor.recurrent
    assert tuple(actor.observation_shape) == (SIZE,)


class Forgets(Gates):
    def forward(self, obs: Tensor, h: Tensor):
        return Gates.forward(self, obs, h)[0], torch.zeros(1, 4)


class Raises(Gates):
    def forward(self, obs: Tensor, h: Tensor):
        raise RuntimeError("no")


class Branches(Gates):
    def forward(self, obs: Tensor, h: Tensor):
        action, h = Gates.forward(self, obs, h)
        return (action, h) if bool(h.sum() > 0) else (action * 2, h)


@pytest.mark.parametrize(
    ("kind", "reason"), [(Forgets, "its state"), (Raises, "cannot be followed at forward"), (Branches, "branch")]
)
def test_what_cannot_be_read_is_one_clear_line(kind: type[Gates], reason: str) -> None:
    with pytest.raises((SourceError, UnsupportedLayerError), match=reason) as caught:
        load_actor(kind())
    assert "\n" not in str(caught.value)


def test_swapped_states_of_an_lstm_are_refused() -> None:
    class Swapped(LstmFlat):
        def forward(self, obs: Tensor, h: Tensor, c: Tensor):  # pyright: ignore
            action, h, c = LstmFlat.forward(self, obs, h, c)
            return {"action": action, "h": c, "c": h}

    with pytest.raises(UnsupportedLayerError, match=r"its state is changed between decisions|cell state"):
        load_actor(Swapped())
