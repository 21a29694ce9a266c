"""Live torch modules: an observation's size that is only a guess, and results that are not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402


class History(nn.Module):
    """Three frames of 8 values; subclasses differ in how the newest gets in."""

    frames: Any
    flat: Any

    def __init__(self) -> None:
        super().__init__()
        self.n = nn.Linear(24, 3)
        self.register_buffer("frames", torch.zeros(1, 3, 8))
        self.register_buffer("flat", torch.zeros(1, 24))
        self.plain, self.kept = torch.zeros(1, 8), [torch.zeros(1, 8)] * 3


class Rolled(History):
    def forward(self, x: Tensor) -> Tensor:
        self.frames = torch.roll(self.frames, 1, dims=1)
        self.frames[:, 0] = x
        return self.n(self.frames.flatten(1))


class Copied(History):
    def forward(self, x: Tensor) -> Tensor:
        self.frames = torch.roll(self.frames, 1, dims=1)
        self.frames[:, 0].copy_(x)
        return self.n(self.frames.flatten(1))


class Joined(History):
    def forward(self, x: Tensor) -> Tensor:
        self.frames = torch.cat((self.frames[:, 1:], x[:, None]), 1)
        return self.n(self.frames.flatten(1))


class Flat(History):
    def forward(self, x: Tensor) -> Tensor:
        self.flat = torch.roll(self.flat, 8, dims=1)
        self.flat[:, :8] = x
        return self.n(self.flat)


class Averaged(History):
    def forward(self, x: Tensor) -> Tensor:
        self.plain = 0.9 * self.plain + 0.1 * x
        return self.n(torch.cat((self.plain, 2 * self.plain, self.plain.abs()), 1))


class Scaled(History):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * torch.arange(1.0, 9.0)) @ self.n.weight.T[:8]


class Listed(History):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = [x, *self.kept[:2]]
        return self.n(torch.cat(self.kept, 1))


@pytest.mark.parametrize(
    "kind", [Rolled, Copied, Joined, Flat, Averaged, Scaled, Listed], ids=lambda kind: kind.__name__
)
def test_an_observation_is_as_long_as_what_it_is_written_into(kind: type[History]) -> None:
    assert load_actor(kind().eval()).observation_shape == (8,)


class Repeated(nn.Module):
    """Takes one value, or as many as there are others."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.expand(1, 8) @ torch.ones(8, 2))


@pytest.mark.filterwarnings("error")
def test_one_value_that_would_be_repeated_is_not_guessed() -> None:
    with pytest.raises((SourceError, UnsupportedLayerError), match="pass observation_shape="):
        load_actor(Repeated().eval())
    assert load_actor(Repeated().eval(), observation_shape=(1,)).observation_shape == (1,)
    assert load_actor(Repeated().eval(), observation_shape=(8,)).observation_shape == (8,)


class S4(Repeated):
    pass


class Attention(Repeated):
    pass


class Mixture(Repeated):
    pass


@pytest.mark.parametrize("kind", [S4, Attention, Mixture])
def test_a_name_does_not_explain_an_open_size(kind: type[Repeated]) -> None:
    with pytest.raises(UnsupportedLayerError, match="pass observation_shape=") as caught:
        load_actor(kind().eval())
    assert "by the name" not in str(caught.value)
    assert load_actor(kind().eval(), observation_shape=8).observation_shape == (8,)


class One(nn.Module):
    """It takes one value, as its weights say; what is made of it may be repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.a(x))
        return torch.sigmoid(self.b(hidden)) * hidden + self.a(x)


@pytest.mark.filterwarnings("error")
def test_one_value_that_the_weights_tell_is_taken() -> None:
    assert load_actor(One().eval()).observation_shape == (1,)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.b(torch.tanh(self.a(x)))


class Branched(Chain):
    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.a(x))
        return self.b(hidden) + self.b(torch.sigmoid(hidden))


class Remembering(Chain):
    past: Any

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Any:
        self.past = torch.tanh(self.a(x) + self.past)
        return self.b(self.past)


class Two(Chain):
    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.a(x))
        return self.b(hidden), hidden


class Named(Chain):
    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.a(x))
        return {"mu": self.b(hidden), "hidden": hidden}


class Passed(Chain):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # pyright: ignore
        h = torch.tanh(self.a(x) + h)
        return self.b(h), h


@pytest.mark.parametrize(
    ("kind", "there"),
    [(Chain, "0"), (Branched, "0"), (Remembering, "0"), (Two, "0, 1"), (Named, "mu, hidden"), (Passed, "0")],
)
@pytest.mark.filterwarnings("ignore:Passed")
def test_a_result_that_is_not_there_is_refused(kind: type[Chain], there: str) -> None:
    with pytest.raises(SourceError, match=f"^output 'value': expected one of {there}$"):
        load_actor(kind().eval(), output="value")
    first = there.partition(",")[0]
    assert load_actor(kind().eval(), output=first).low.size == 2


@pytest.fixture
def sources(tmp_path: Path) -> list[tuple[Any, dict[str, Any]]]:
    module = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    script: Any = torch.jit.script(module)
    script.save(str(tmp_path / "script.pt"))
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    tanh = {"activation": "tanh"}
    return [(module, {}), (script, {}), (tmp_path / "script.pt", {}), (tmp_path / "weights.pt", tanh),
            (module.state_dict(), tanh)]  # fmt: skip


@pytest.mark.parametrize("given", [8, np.int64(8), [8], np.array([8]), torch.Size([8])], ids=repr)
def test_a_vector_may_be_told_by_its_length(sources: list[tuple[Any, dict[str, Any]]], given: Any) -> None:
    for source, options in sources:
        assert load_actor(source, observation_shape=given, **options).observation_shape == (8,)
        with pytest.raises(SourceError, match="takes 8 inputs"):
            load_actor(source, observation_shape=7, **options)


@pytest.mark.parametrize(
    "given", [8.0, "8", True, (8.5,), [[8]], {8}, np.zeros((2, 2)), -8, (0,), {}, {"x": "8"}, {8: 8}], ids=repr
)
def test_what_is_no_shape_is_refused_in_one_line(sources: list[tuple[Any, dict[str, Any]]], given: Any) -> None:
    for source, options in sources:
        with pytest.raises(
            TypeError, match=r"^observation_shape: expected sizes like \(8,\) or \(3, 84, 84\), got .+$"
        ):
            load_actor(source, observation_shape=given, **options)


@pytest.mark.parametrize("given", [{"x": 8}, {"x": (3,), "y": [5]}], ids=repr)
def test_shapes_by_name_are_for_what_has_named_inputs(sources: list[tuple[Any, dict[str, Any]]], given: Any) -> None:
    for source, options in sources:
        one_input = "activation" in options
        told = "a checkpoint has one input; expected its sizes, like" if one_input else "expected the input"
        with pytest.raises(TypeError if one_input else SourceError, match=told):
            load_actor(source, observation_shape=given, **options)
