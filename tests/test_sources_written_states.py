"""Every way in which a forward keeps something for the next decision is a memory, or refused for what it is."""

import collections
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Keeps(nn.Module):
    """A plain recurrence; subclasses differ in how they keep it."""

    h: Tensor
    past: Tensor
    mean: Tensor
    default_position: Tensor
    padding: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.w = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 2), nn.Linear(18, 5)
        self.register_buffer("h", torch.zeros(1, 5))
        self.register_buffer("past", torch.zeros(1, 3, 6))
        self.plain, self.kept = torch.zeros(1, 5), [torch.zeros(1, 5), torch.ones(1, 5)]

    def after(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.a(x) + self.b(h))


class Assigned(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.h = self.after(x, self.h)
        return self.c(self.h)


class Copied(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.h)
        self.h.copy_(h)
        return self.c(h)


class Sliced(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.h[:] = self.after(x, self.h)
        return self.c(self.h)


class Row(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.h)
        self.h[0] = h[0]
        return self.c(h)


class IndexPut(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.h)
        self.h.index_put_((torch.tensor([0]),), h)
        return self.c(h)


class ThroughData(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.h)
        self.h.data.copy_(h)
        return self.c(h)


class DataAssigned(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.h)
        self.h.data = h
        return self.c(h)


class Averaged(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.h.mul_(0.9).add_(self.a(x) * 0.1)
        return self.c(torch.relu(self.h))


class InAList(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.kept[0] = self.after(x, self.kept[0])
        return self.c(self.kept[0])


class Queue(Keeps):
    """A list that is used as a queue: what is read was written two decisions ago."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.kept.pop(0))
        self.kept.append(h)
        return self.c(h)


class Plain(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.plain = self.after(x, self.plain)
        return self.c(self.plain)


class Deque(Keeps):
    def __init__(self) -> None:
        super().__init__()
        self.queue = collections.deque([torch.zeros(1, 5), torch.ones(1, 5)], maxlen=2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.after(x, self.queue[0])
        self.queue.append(h)
        return self.c(h)


class Rolled(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.past = torch.roll(self.past, -1, 1)
        self.past[:, -1] = x
        return self.c(torch.relu(self.w(self.past.flatten(1))))


class LastAction(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        y = self.c(torch.relu(self.a(x))) + 0.5 * self.h[:, :2]
        self.h = torch.cat((y, self.h[:, 2:]), 1)
        return y


KINDS = [Assigned, Copied, Sliced, Row, IndexPut, ThroughData, DataAssigned, Averaged, InAList, Queue, Plain, Deque,
         Rolled, LastAction]  # fmt: skip
SCRIPTED = [kind for kind in KINDS if kind not in (DataAssigned, Deque)]
IN_PLACE = [Copied, Sliced, Row, IndexPut, Averaged]


def built(kind: type[Keeps]) -> Any:
    torch.manual_seed(0)
    return kind().eval()


def worst(actor: Any, program: Any, decisions: int = 200) -> float:
    rng, largest = np.random.default_rng(0), 0.0
    with torch.no_grad():
        for _ in range(decisions):
            x = rng.standard_normal((1, 6)).astype(np.float32)
            largest = max(largest, float(np.abs(actor.act(x) - program(torch.tensor(x)).numpy()).max()))
    return largest


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_recurrent_however_it_keeps_its_state(kind: type[Keeps]) -> None:
    module = built(kind)
    actor = load_actor(module, observation_shape=(6,))
    assert actor.recurrent
    assert worst(actor, copy.deepcopy(module)) <= 1e-6


@pytest.mark.parametrize("kind", SCRIPTED)
def test_a_script_is_recurrent_however_it_keeps_its_state(kind: type[Keeps], tmp_path: Path) -> None:
    torch.jit.script(built(kind)).save(str(tmp_path / "p.pt"))
    actor = load_actor(tmp_path / "p.pt", observation_shape=(6,))
    assert actor.recurrent
    assert worst(actor, torch.jit.load(str(tmp_path / "p.pt"))) <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_remembers_or_is_refused_as_what_forgets(kind: type[Keeps], tmp_path: Path) -> None:
    torch.jit.trace(built(kind), torch.zeros(1, 6), check_trace=False).save(str(tmp_path / "p.pt"))
    if kind in IN_PLACE:
        actor = load_actor(tmp_path / "p.pt", observation_shape=(6,))
        assert actor.recurrent
        assert worst(actor, torch.jit.load(str(tmp_path / "p.pt"))) <= 1e-6
        return
    with pytest.raises(UnsupportedLayerError, match=r"would forget at every step, as|as in traces: it would"):
        load_actor(tmp_path / "p.pt", observation_shape=(6,))


class Constants(Keeps):
    """Buffers that are no memories: a scale, an offset, frames that are filled up with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(6))
        self.register_buffer("default_position", torch.randn(2))
        self.register_buffer("padding", torch.ones(1, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.w(torch.cat((x - self.mean, self.padding), 1)))) * 0.25 + self.default_position


@pytest.mark.parametrize("way", [torch.jit.script, lambda module: torch.jit.trace(module, torch.zeros(1, 6))])
def test_constants_stay_constants(way: Any, tmp_path: Path) -> None:
    way(built(Constants)).save(str(tmp_path / "p.pt"))
    actor = load_actor(tmp_path / "p.pt", observation_shape=(6,))
    assert not actor.recurrent
    assert worst(actor, built(Constants), 20) <= 1e-6


def stepwise(module: nn.Module, rounds: int = 20) -> float:
    """Return by how much actor and module differ at most, decision by decision, over two episodes."""
    actor, own, rng = load_actor(module.eval()), copy.deepcopy(module), np.random.default_rng(3)
    largest = 0.0
    for _ in range(2):
        own.reset()  # pyright: ignore
        state = actor.initial_state(1)
        for row in rng.standard_normal((rounds, 1, 6)).astype(np.float32):
            action, state = actor.step(row, state)
            with torch.no_grad():
                largest = max(largest, float(np.abs(action - own(torch.as_tensor(row)).numpy()).max()))
    return largest


class Adds(nn.Module):
    """A state that a chain of layers is joined with, without anything between; subclasses differ in how."""

    h: Any

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(6, 3), nn.BatchNorm1d(6)
        self.register_buffer("h", torch.zeros(1, 3))
        self.plain = torch.zeros(1, 3)

    def reset(self) -> None:
        self.h, self.plain = torch.zeros(1, 3), torch.zeros(1, 3)


class Integrates(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h = self.h + torch.tanh(self.a(x))
        return self.h


class IntegratesAfter(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h = torch.tanh(self.a(x)) + self.h
        return self.h


class Alternates(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h = self.a(x) - self.h
        return self.h


class Limits(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h = self.h + torch.clamp(torch.tanh(self.a(x)) - self.h, -0.1, 0.1)
        return self.h


class Increments(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h += self.a(x)
        return self.h


class IntegratesPlain(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.plain = self.plain + self.a(x)
        return self.plain


class KeepsTheGreatest(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.h = torch.maximum(self.h, self.a(x))
        return self.h


class Shifts(Adds):
    def forward(self, x: Tensor) -> Tensor:
        self.norm.running_mean = self.norm.running_mean + 0.1 * x  # pyright: ignore
        return self.a(self.norm(x))


@pytest.mark.parametrize(
    "kind",
    [Integrates, IntegratesAfter, Alternates, Limits, Increments, IntegratesPlain, KeepsTheGreatest],
    ids=lambda kind: kind.__name__,
)
def test_what_a_state_is_joined_with_directly_is_a_memory(kind: type[Adds]) -> None:
    torch.manual_seed(0)
    assert stepwise(kind()) <= 1e-5


def test_statistics_that_forward_moves_by_hand_are_refused_in_one_line() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"norm\.running_mean \(memory\).*it is recurrent"):
        load_actor(Shifts().eval())
