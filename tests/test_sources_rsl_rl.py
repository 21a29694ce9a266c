"""rsl_rl's models are read by what they export themselves; a network without its normaliser gets a warning."""

# pyright: reportOperatorIssue=false, reportIncompatibleMethodOverride=false
import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy.errors import SourceError
from snn_policy.sources import load_actor
from tests.test_sources_torchscript import Lstm, Normaliser, mlp


class MLP(nn.Sequential):
    """As rsl_rl's: a Sequential whose forward is a loop."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x)
        return x


MLP.__module__ = "rsl_rl.networks.mlp"


class Exported(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.obs_normalizer, self.mlp = copy.deepcopy(model.obs_normalizer), copy.deepcopy(model.mlp)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.obs_normalizer(x))


class Model(nn.Module):
    """A model whose forward takes a dictionary of groups of observations."""

    def __init__(self) -> None:
        super().__init__()
        self.obs_normalizer, self.mlp = Normaliser(7), MLP(*mlp(7, 16, 12, 3))

    def forward(self, groups: dict[str, torch.Tensor], masks: Any, hidden: Any) -> torch.Tensor:
        return self.mlp(self.obs_normalizer(groups["policy"]))


class Jit(Model):
    def as_jit(self) -> nn.Module:
        return Exported(self)


class Onnx(Model):
    def as_onnx(self, verbose: bool = False) -> nn.Module:
        return Exported(self)


class Broken(Model):
    def as_jit(self) -> nn.Module:
        raise NotImplementedError("not for this one")


@pytest.mark.parametrize("kind", [Jit, Onnx])
def test_a_model_keeps_its_normaliser(kind: type[Model]) -> None:
    torch.manual_seed(0)
    model = kind()
    obs = torch.randn(40, 7) * 3
    with warnings.catch_warnings(action="error", category=UserWarning):
        actor = load_actor(model)
    with torch.no_grad():
        own = model({"policy": obs}, None, None).numpy()
    assert np.abs(actor.step(obs.numpy(), ())[0] - own).max() < 1e-5 * np.abs(own).max()
    assert actor.normaliser is not None


def test_a_bare_network_gets_a_warning_that_says_what_stays_behind() -> None:
    with pytest.warns(UserWarning, match=r"observation normaliser is not a part of it.*model\.as_jit\(\)"):
        load_actor(Jit().mlp)
    with warnings.catch_warnings(action="error", category=UserWarning):
        load_actor(mlp(7, 16, 3))


def test_an_export_that_fails_is_one_line() -> None:
    with pytest.raises(SourceError, match=r"Broken\.as_jit\(\) fails \(not for this one\)"):
        load_actor(Broken())


def test_live_scripted_and_loaded_modules_are_read(tmp_path: Path) -> None:
    module = mlp(7, 16, 3)
    obs = torch.randn(20, 7)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        scripts = [torch.jit.script(module), torch.jit.trace(module, obs[:1])]
        scripts[0].save(str(tmp_path / "p.pt"))  # pyright: ignore
        scripts.append(torch.jit.load(str(tmp_path / "p.pt")))
        for script in scripts:
            actor = load_actor(script)
            assert np.abs(actor.step(obs.numpy(), ())[0] - module(obs).detach().numpy()).max() < 1e-5
        assert load_actor(torch.jit.script(Lstm(nn.LSTM, 2))).recurrent
