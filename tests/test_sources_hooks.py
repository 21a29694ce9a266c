"""Hooks of a live module: one that changes an action is refused; one that only looks on is left out with a warning."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:hooks on")
CALLS = 24


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.n(x)


class Residual(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.n(torch.tanh(self.inner(x)) + x)


class Remembers(Chain):
    past: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.zeros(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.past = 0.5 * self.past + self.n(x)
        return self.past

    def reset(self) -> None:
        self.past = torch.zeros(1, 3)


class Smooths:
    """Keeps what was returned before: a difference that the first decision does not show."""

    last: Any = 0.0

    def __call__(self, module: nn.Module, given: Any, output: Tensor) -> Tensor:
        self.last = output + self.last
        return self.last


class Counts:
    """Cannot be copied."""

    def __init__(self) -> None:
        self.calls, self.lock = 0, threading.Lock()

    def __call__(self, *_: Any) -> None:
        with self.lock:
            self.calls += 1


def fails(*_: Any) -> None:
    raise RuntimeError("not today\nnor tomorrow")


def pruned(module: Chain) -> Chain:
    prune.l1_unstructured(module.n, "weight", 0.3)
    return module


def pruned_and_trained(module: Chain) -> Chain:
    """The weights that the hook computes are others than those that lie there."""
    pruned(module)
    with torch.no_grad():
        module.n.weight_orig.add_(1.0)  # pyright: ignore
    return module


def compiled(module: Chain) -> Any:
    return torch.compile(module)


ACTING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "before": (lambda m: m.register_forward_pre_hook(lambda _, given: (given[0].clamp(-1, 1) / 5,)), "module"),
    "part": (lambda m: m.n.register_forward_hook(lambda _, given, output: output * 1.1), "n"),
    "with keywords": (lambda m: m.register_forward_hook(lambda *given: given[-1] + 0.1, with_kwargs=True), "module"),
    "memory": (lambda m: m.register_forward_hook(Smooths()), "module"),
    "random": (lambda m: m.register_forward_hook(lambda _, given, output: output + torch.randn(3)), "module"),
    "another result": (lambda m: m.register_forward_hook(lambda _, given, output: (output, output)), "module"),
    "fails": (lambda m: m.register_forward_hook(fails), "module"),
    "weights": (pruned_and_trained, "n"),
}
LOOKING_ON: dict[str, Callable[[Any], Any]] = {
    "logs": lambda m: m.n.register_forward_hook(lambda _, given, output: print(float(output[0, 0].item()))),
    "looks before": lambda m: m.register_forward_pre_hook(lambda *_: None),
    "cannot be copied": lambda m: m.register_forward_hook(Counts()),
    "the same": lambda m: m.register_forward_hook(lambda _, given, output: output.clone()),
    "weights": pruned,
    "backward": lambda m: m.register_full_backward_hook(lambda *_: None),
}


@pytest.mark.parametrize("kind", [Chain, Residual, Remembers])
@pytest.mark.parametrize("case", ACTING)
def test_a_hook_that_changes_the_action_is_refused_by_its_place(case: str, kind: type[Chain]) -> None:
    module = kind().eval()
    hook, place = ACTING[case]
    hook(module)
    with pytest.raises(UnsupportedLayerError, match="Remove it, or put what it does into forward") as caught:
        load_actor(module)
    assert (caught.value.path, caught.value.kind) == (place, "hook")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Chain, Residual, Remembers])
@pytest.mark.parametrize("case", LOOKING_ON)
def test_a_hook_that_changes_nothing_is_left_out_with_a_warning(case: str, kind: type[Chain]) -> None:
    module = kind().eval()
    own = copy.deepcopy(module)
    LOOKING_ON[case](module)
    if case == "weights":
        own = module
    with pytest.warns(UserWarning, match="hooks on (n|module) are not part of the conversion"):
        actor = load_actor(module)
    row = np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32)
    with torch.no_grad():
        assert actor.act(row) == pytest.approx(own(torch.as_tensor(row)).numpy(), abs=1e-5)


@pytest.mark.parametrize("kind", [Chain, Residual, Remembers])
def test_hooks_are_called_once_for_every_decision_of_the_comparison(kind: type[Chain]) -> None:
    module, seen = kind().eval(), list[tuple[int, ...]]()
    module.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    load_actor(module)
    assert seen == [(1, 8)] * CALLS


class Writes(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        self.past.copy_(0.5 * self.past + self.n(x))
        return self.past.clone()


@pytest.mark.parametrize("kind", [Chain, Residual, Writes])
@pytest.mark.filterwarnings("ignore")
def test_hooks_of_a_traced_module_are_compared(kind: type[Chain]) -> None:
    module: Any = torch.jit.trace(kind().eval(), torch.zeros(1, 8), check_trace=False)
    module.register_forward_hook(lambda *_: None)
    assert load_actor(module, observation_shape=8).observation_shape == (8,)
    module.register_forward_pre_hook(lambda _, given: (given[0] / 5,))
    with pytest.raises(UnsupportedLayerError, match=r"module \(hook\).*Remove it, or put"):
        load_actor(module, observation_shape=8)


class Exported(Chain):
    def as_jit(self) -> nn.Module:
        return copy.deepcopy(self.n)


def test_hooks_of_a_model_that_exports_itself_are_refused_and_those_of_its_parts_compared() -> None:
    model = Exported().eval()
    model.n.register_forward_hook(lambda *_: None)
    assert load_actor(model).observation_shape == (8,)
    handle = model.register_forward_hook(lambda *_: None)
    with pytest.raises(UnsupportedLayerError, match=r"Exported \(hook\).*as_jit.*Remove it first"):
        load_actor(model)
    handle.remove()
    model.n.register_forward_hook(lambda *given: given[-1] * 2)
    with pytest.raises(UnsupportedLayerError, match=r"module \(hook\) cannot be converted"):
        load_actor(model)


def test_hooks_around_a_compiled_module_count() -> None:
    module = compiled(Chain().eval())
    module.register_forward_hook(lambda *_: None)
    assert load_actor(module).observation_shape == (8,)
    module.register_forward_hook(lambda _, given, output: output * 2)
    with pytest.raises(UnsupportedLayerError, match="hook"):
        load_actor(module)


@pytest.mark.parametrize("kind", [Chain, Residual, Remembers])
def test_hooks_on_all_modules_are_read_or_refused(kind: type[Chain]) -> None:
    clamps: Any = lambda _, given: (given[0].clamp(-0.5, 0.5),)  # noqa: E731
    handle = nn.modules.module.register_module_forward_pre_hook(clamps)
    module = kind().eval()
    row = np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32)
    try:
        actor = load_actor(module)
        with torch.no_grad():
            assert actor.act(row) == pytest.approx(module(torch.as_tensor(row)).numpy(), abs=1e-5)
    except UnsupportedLayerError:
        pass
    finally:
        handle.remove()
