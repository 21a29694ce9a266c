"""Live modules whose forward draws, or keeps Python state, are refused or warned of; loading moves no generator."""

import random
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402

SHARED = np.random.default_rng(7)


class Policy(nn.Module):
    """A small policy, whose action `after` changes."""

    n, rate = 0, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Linear(4, 16), nn.Linear(16, 2)
        self.rng, self.generator = np.random.default_rng(3), torch.Generator()
        self.own, self.old = random.Random(1), np.random.RandomState(2)
        self.log: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.tanh(self.last(torch.relu(self.body(x)))))

    def after(self, action: Tensor) -> Tensor:
        return action


def made(after: Any) -> nn.Module:
    torch.manual_seed(0)
    return type("Made", (Policy,), {"after": after})().eval()


def rarely(drawn: Any) -> Any:
    """Change the action where a number drawn is under 1e-4: twenty rows do not show it."""
    return lambda self, action: -action if drawn(self) < 1e-4 else action


DRAWS = {
    "torch.rand": rarely(lambda self: float(torch.rand(()).numpy())),
    "bernoulli": lambda self, action: action * torch.bernoulli(torch.full((2,), 0.9999)),
    "random": rarely(lambda self: random.random()),
    "numpy.random": rarely(lambda self: np.random.random()),  # noqa: NPY002
    "default_rng": rarely(lambda self: self.rng.random()),
    "torch.Generator": lambda self, action: action * (torch.rand(2, generator=self.generator) > 1e-4).float(),
    "random.Random": rarely(lambda self: self.own.random()),
    "RandomState": rarely(lambda self: self.old.random_sample()),
    "a global generator": rarely(lambda self: SHARED.random()),
}


@pytest.mark.parametrize("drawn", DRAWS)
def test_a_forward_that_draws_is_refused_whatever_it_draws_from(drawn: str) -> None:
    with pytest.raises(UnsupportedLayerError, match="it is random"):
        load_actor(made(DRAWS[drawn]))


def joined(draw: Any) -> Any:
    """Draw in a forward that is no chain of layers."""
    return lambda self, action: torch.cat([action, draw(self, action)], -1)


@pytest.mark.parametrize("drawn", DRAWS)
def test_so_is_one_that_is_no_chain(drawn: str) -> None:
    with pytest.raises(UnsupportedLayerError, match="it is random"):
        load_actor(made(joined(DRAWS[drawn])))


def states() -> list[Any]:
    old = np.random.get_state(legacy=False)  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), old["state"]["key"].tolist(), old["state"]["pos"],
            SHARED.bit_generator.state]  # fmt: skip


@pytest.mark.parametrize("drawn", [*DRAWS, None])
def test_loading_leaves_every_generator_where_it_was(drawn: str | None) -> None:
    module = made(Policy.after if drawn is None else DRAWS[drawn])
    before = states()
    with suppress(UnsupportedLayerError):
        load_actor(module)
    assert states() == before


@pytest.mark.parametrize(
    "after",
    [
        lambda self, action: action + torch.randn_like(action) * self.rng.random() if self.training else action,
        lambda self, action: torch.distributions.Normal(action, torch.ones(2), validate_args=False).mean,
        lambda self, action: action * (0 * np.random.default_rng(0).random() + 1),  # one of its own, seeded
    ],
)
def test_what_draws_in_training_only_or_by_a_seed_of_its_own_is_read(after: Any) -> None:
    module = made(after)
    obs = torch.randn(50, 4)
    with torch.no_grad():
        own = module(obs).numpy()
    assert np.abs(load_actor(module).act(obs.numpy()) - own).max() <= 1e-5


def counts(self: Any, action: Tensor) -> Tensor:
    self.n += 1
    return -action if self.n > 90 else action


def decays(self: Any, action: Tensor) -> Tensor:
    self.rate = self.rate * 0.99
    return action * self.rate


def alternates(self: Any, action: Tensor) -> Tensor:
    self.flag = not getattr(self, "flag", False)
    return action if self.flag else -action


def remembers(self: Any, action: Tensor) -> Tensor:
    self.log.append(1.0)
    return action * len(self.log)


@pytest.mark.parametrize("after", [counts, decays, alternates, remembers])
def test_state_in_plain_attributes_that_the_action_depends_on_is_refused(after: Any) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"hidden state|differs from what its layers"):
        load_actor(made(after))


def counted(self: Any, action: Tensor) -> Tensor:
    self.n += 1
    return action


def logged(self: Any, action: Tensor) -> Tensor:
    self.log.append(0.5)
    return action


def timed(self: Any, action: Tensor) -> Tensor:
    self.rate += 0.02
    return action


@pytest.mark.parametrize(("after", "name"), [(counted, "n"), (logged, "log"), (timed, "rate")])
def test_a_counter_without_an_influence_is_warned_of(after: Any, name: str) -> None:
    module = made(after)
    with pytest.warns(UserWarning, match=f"forward changes {name}, which no action"):
        actor = load_actor(module)
    obs = torch.randn(50, 4)
    with torch.no_grad():
        assert np.abs(actor.act(obs.numpy()) - module(obs).numpy()).max() <= 1e-5


def test_what_forward_sets_once_is_neither() -> None:
    def after(self: Any, action: Tensor) -> Tensor:
        self.width, self.ready = int(action.shape[-1]), True
        return torch.cat([action, action.flip(-1)], -1)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_actor(made(after), observation_shape=(4,))
    assert not [one for one in told if "forward changes" in str(one.message)]
