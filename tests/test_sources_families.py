"""State spaces and transformers whose states come in as inputs are named, too; linear ones are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402
from snn_policy.sources.families import family_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATE = torch.zeros(1, 8, 4)


class Selective(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rates = nn.Parameter(-torch.rand(8, 4))
        self.b, self.c, self.step, self.body, self.out = (
            nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 2))  # fmt: skip

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        step = F.softplus(self.step(x))[..., None]
        h = torch.exp(step * self.rates) * h + step * self.body(x)[..., None] * self.b(x)[:, None]
        return self.out((h * self.c(x)[:, None]).sum(-1)), h


class Outer(Selective):
    def forward(self, x: Tensor, ssm_state: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        step = F.softplus(self.step(x))
        decay, given = (
            torch.exp(torch.einsum("bd,dn->bdn", step, self.rates)),
            torch.einsum("bd,bn->bdn", step, self.b(x)),
        )
        state = ssm_state * decay + self.body(x)[..., None] * given
        return self.out(torch.einsum("bdn,bn->bd", state, self.c(x)) * F.silu(self.body(x))), state


class Cached(Selective):
    """Mamba's step: a window of the last inputs, and the state."""

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # pyright: ignore
        window = torch.cat([cache[0][:, 1:], x[:, None]], 1)
        x = F.silu(window.mean(1))
        step = F.softplus(self.step(x))[..., None]
        h = torch.exp(step * self.rates) * cache[1] + step * self.body(x)[..., None] * self.b(x)[:, None]
        return self.out((h * self.c(x)[:, None]).sum(-1)), (window, h)


class MambaStep(Cached):
    pass


class Keys(nn.Module):
    """One step of a transformer, whose keys and values come in."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out = (nn.Linear(6, 8) for _ in range(4))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor, past_keys: Tensor, past_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys = torch.cat([past_keys[:, 1:], self.k_proj(x)[:, None]], 1)
        values = torch.cat([past_values[:, 1:], self.v_proj(x)[:, None]], 1)
        weights = torch.softmax((keys @ self.q_proj(x)[..., None])[..., 0], -1)
        return self.out((weights[..., None] * values).sum(1)), keys, values


def handed_over(module: nn.Module, example: Any, path: Path, names: list[str]) -> Iterator[Any]:
    yield module
    torch.jit.script(module).save(str(path / "s.pt"))  # pyright: ignore
    yield path / "s.pt"
    torch.jit.trace(module, example, check_trace=False).save(str(path / "t.pt"))  # pyright: ignore
    yield path / "t.pt"
    torch.onnx.export(module, example, str(path / "p.onnx"), dynamo=False,
                      input_names=["obs", *(f"{n}_in" for n in names)],
                      output_names=["action", *(f"{n}_out" for n in names)])  # fmt: skip
    yield path / "p.onnx"


WINDOW = torch.zeros(1, 4, 6), STATE
CASES: dict[str, tuple[type[nn.Module], Any, list[str], str]] = {
    "state": (Selective, (torch.zeros(1, 6), STATE), ["h"], "state space"),
    "outer products": (Outer, (torch.zeros(1, 6), STATE), ["ssm_state"], "state space"),
    "cache": (MambaStep, (torch.zeros(1, 6), WINDOW), ["conv", "ssm"], "state space"),
    "keys and values": (Keys, (torch.zeros(1, 6), torch.zeros(1, 5, 8), torch.zeros(1, 5, 8)), ["k", "v"],
                        r"(?i)attention|experts"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_state_that_comes_in_hides_nothing(name: str, tmp_path: Path) -> None:
    kind, example, names, what = CASES[name]
    for source in handed_over(kind().eval(), example, tmp_path, names):
        with pytest.raises(UnsupportedLayerError, match=what) as caught:
            load_actor(source)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


def test_shapes_of_several_states_under_one_name_are_no_traceback() -> None:
    with pytest.raises((SourceError, UnsupportedLayerError)):
        load_actor(Cached().eval(), observation_shape={"x": (6,), "cache": ((1, 4, 6), (1, 8, 4))})  # pyright: ignore
    with pytest.raises(SourceError, match="'b' is one observation, of a shape like"):
        load_actor(TwoInputs().eval(), observation_shape={"a": (6,), "b": ((1, 2), (2, 3))})  # pyright: ignore


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.net(torch.cat([a, b], -1))


class Linear(nn.Module):
    """A diagonal state space that does not choose: a leaky sum, which stages compute."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decay, self.given, self.out = nn.Parameter(torch.rand(8) * 0.9), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.decay * state + self.given(x)
        return self.out(F.gelu(state)), state


def test_linear_state_spaces_are_read_and_act_as_they_do_over_200_decisions(tmp_path: Path) -> None:
    module = Linear().eval()
    observations = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    with torch.no_grad():
        state, own = torch.zeros(1, 8), []
        for obs in observations:
            action, state = module(torch.tensor(obs[None]), state)
            own.append(action.numpy()[0])
    for source in handed_over(module, (torch.zeros(1, 6), torch.zeros(1, 8)), tmp_path, ["state"]):
        actor = load_actor(source)
        actor.reset(num_envs=1)
        ours = np.array([actor.act(obs[None])[0] for obs in observations])
        assert np.abs(ours - np.array(own)).max() <= 1e-5 * np.abs(own).max()


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("decay", torch.randn(8, dtype=torch.complex64))
        self.register_buffer("h", torch.zeros(1, 8, dtype=torch.complex64))
        self.given, self.out = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.decay * self.h + self.given(x)  # pyright: ignore
        self.h.copy_(h)  # pyright: ignore
        return self.out(h.real)


def test_complex_states_are_told_from_damaged_files(tmp_path: Path) -> None:
    torch.jit.script(Complex()).save(str(tmp_path / "s.pt"))  # pyright: ignore
    torch.save(Complex().state_dict(), tmp_path / "c.pt")
    for source in (Complex(), tmp_path / "s.pt", tmp_path / "c.pt"):
        with pytest.raises(UnsupportedLayerError, match=r"complex numbers, as state spaces \(S4\)"):
            load_actor(source, observation_shape=(6,)) if source != tmp_path / "c.pt" else load_actor(
                source, activation="relu"
            )


@pytest.mark.parametrize(
    ("names", "what"),
    [(["layers.0.mixer.A_log"], "state space"), (["block.dt_proj.weight"], "state space"), (["S4D"], "state space"),
     (["h.0.attn.c_attn.weight"], "attention"), (["TransformerEncoder"], "attention"),
     (["self_attn.in_proj_weight"], "attention"),
     (["noise_pred_net.up.0"], "diffusion"), (["x", "timestep"], "diffusion"), (["ConditionalUnet1D"], "diffusion"),
     (["experts.0.weight"], "experts"), (["router.weight"], "experts"), (["GatingNetwork"], "experts"),
     (["actor.0.weight", "mean", "std", "log_std", "obs", "encoder.conv.weight", "state", "gate", "betas_"], None)],
)  # fmt: skip
def test_families_are_known_by_the_names_of_their_parts(names: list[str], what: str | None) -> None:
    found = family_of(names)
    assert (found is None) if what is None else (found is not None and what in found[1] and found[0] in names)
