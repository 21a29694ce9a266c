"""Observation statistics of checkpoints: every library's own rule, what is stored beside them, or a refusal."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_policy import SourceError, load_actor
from tests.test_sources_checkpoints import chain, forward

torch.manual_seed(0)
OBS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * 4
NET = chain("pi.mean.", 8, 16, 3)
MEAN, STD = torch.randn(8), torch.rand(8) * 0.2 + 0.05


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def normalised(epsilon: float, within: bool, reach: Any) -> Any:
    mean, std = MEAN.double().numpy(), STD.double().numpy()
    spread = np.sqrt(std**2 + epsilon) if within else std + epsilon
    return forward(NET, ["pi.mean.0", "pi.mean.2"], relu, np.clip((OBS - mean) / spread, -reach, reach))


def read(path: Path, kept: dict[str, Any], folder: str = "obs_normalizer", **given: Any) -> tuple[Any, list[str]]:
    torch.save({"net": NET, folder: kept}, path / "policy.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        actor = load_actor(path / "policy.pt", activation="relu", **given)
    return actor.act(OBS), [str(warning.message) for warning in caught]


OMNISAFE = {"_mean": MEAN, "_std": STD, "_var": STD**2, "_sumsq": STD * 9, "_count": torch.tensor(9)}
RSL_RL = {"_mean": MEAN, "_std": STD, "_var": STD**2, "count": torch.tensor(9)}
MOMENTS = {"mean": MEAN, "var": STD**2}


@pytest.mark.parametrize("reach", [5.0, 1e6, 2.0])
def test_omnisafes_statistics_add_nothing_and_are_clipped_to_what_is_stored(reach: float, tmp_path: Path) -> None:
    actions, told = read(tmp_path, OMNISAFE | {"_clip": reach * torch.ones(8)})
    assert np.allclose(actions, normalised(0, False, reach), rtol=1e-4, atol=1e-4)
    assert told == []


def test_rsl_rls_keep_their_rule_and_are_told_where_the_folder_is_not_theirs(tmp_path: Path) -> None:
    for folder, lines in (("obs_normalizer", 0), ("obs_norm_state_dict", 0), ("scaler", 1)):
        actions, told = read(tmp_path, RSL_RL, folder)
        assert np.allclose(actions, normalised(1e-2, False, np.inf), rtol=1e-4, atol=1e-4)
        assert len(told) == lines
        assert all("ε 0.01 and no clip, as in rsl_rl" in line for line in told)


@pytest.mark.parametrize("folder", ["scaler", "normalizer", "gaussian"])
def test_a_mean_and_a_deviation_of_no_known_library_are_refused_with_the_way_out(folder: str, tmp_path: Path) -> None:
    kept = {"_mean": MEAN, "_std": STD}
    with pytest.raises(SourceError, match=rf"{folder}\._mean, _std: .*does not say what is added.*normaliser="):
        read(tmp_path, kept, folder)
    actions, told = read(tmp_path, kept, folder, normaliser=(MEAN.numpy(), STD.numpy() ** 2))
    assert np.allclose(actions, normalised(1e-8, True, np.inf), rtol=1e-3, atol=1e-3)
    assert told == []
    actions, told = read(tmp_path, kept | {"eps": 1e-3}, folder)
    assert np.allclose(actions, normalised(1e-3, False, np.inf), rtol=1e-4, atol=1e-4)
    assert len(told) == 1


@pytest.mark.parametrize("name", ["epsilon", "eps", "_eps"])
@pytest.mark.parametrize("value", [torch.tensor(0.04), 0.04, np.float64(0.04), torch.full((8,), 0.04)])
@pytest.mark.parametrize("kept", [MOMENTS, RSL_RL], ids=["moments", "rsl_rl"])
def test_an_epsilon_beside_statistics_is_used_and_told(name: str, value: Any, kept: Any, tmp_path: Path) -> None:
    actions, told = read(tmp_path, kept | {name: value})
    moments = kept is MOMENTS
    assert np.allclose(actions, normalised(0.04, moments, 10 if moments else np.inf), rtol=1e-4, atol=1e-4)
    assert [f"ε 0.04 (stored as obs_normalizer.{name})" in line for line in told] == [True]


@pytest.mark.parametrize("name", ["clip", "clip_obs", "clip_threshold"])
def test_a_clip_beside_statistics_is_used_and_told(name: str, tmp_path: Path) -> None:
    for value in (1.5, torch.tensor(1.5)):
        actions, told = read(tmp_path, MOMENTS | {name: value})
        assert np.allclose(actions, normalised(1e-8, True, 1.5), rtol=1e-4, atol=1e-4)
        assert [f"a clip to ±1.5 (stored as obs_normalizer.{name})" in line for line in told] == [True]
    actions, told = read(tmp_path, MOMENTS | {name: float("inf")})
    assert np.allclose(actions, normalised(1e-8, True, np.inf), rtol=1e-4, atol=1e-4)
    assert [f"no clip (stored as obs_normalizer.{name})" in line for line in told] == [True]


def test_numbers_of_the_folder_around_the_statistics_count_too(tmp_path: Path) -> None:
    kept = {"obs_rms": MOMENTS, "epsilon": 0.04, "clip_obs": 1.5}
    actions, told = read(tmp_path, kept, "vecnormalize")
    assert np.allclose(actions, normalised(0.04, True, 1.5), rtol=1e-4, atol=1e-4)
    assert len(told) == 1


@pytest.mark.parametrize("kept", [{"eps": -1.0}, {"eps": 1e-3, "epsilon": 1e-2}, {"clip": torch.ones(3)},
                                  {"eps": torch.tensor(float("nan"))}])  # fmt: skip
def test_a_number_beside_statistics_that_cannot_be_used_is_refused(kept: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"obs_normalizer\.\w+ .*not to be used.*normaliser="):
        read(tmp_path, MOMENTS | kept)


@pytest.mark.parametrize(
    ("epsilon", "used"), [(1e-5, 1e-5), (0.01, 0.01), (0.05, 1e-8), (1.0, 1e-8), (torch.full((3,), 0.001), 0.001)]
)
def test_an_epsilon_of_exploration_is_not_that_of_statistics(tmp_path: Path, epsilon: Any, used: float) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = {"actor.0.weight": (8, 3), "actor.0.bias": (8,), "actor.2.weight": (2, 8), "actor.2.bias": (2,)}
    weights: dict[str, Any] = {name: torch.randn(shape, generator=generator) for name, shape in layers.items()}
    weights |= {"mean": torch.tensor([0.1, -0.2, 0.3]), "var": torch.tensor([1e-4, 1.0, 4.0]), "epsilon": epsilon}
    torch.save(weights, tmp_path / "agent.pt")
    actor = load_actor(tmp_path / "agent.pt", activation="tanh")
    normalised = np.array([0.1, -0.2, 0.3]) + np.sqrt(np.array([1e-4, 1.0, 4.0]) + used)
    assert actor.normaliser is not None
    np.testing.assert_allclose(actor.normaliser(normalised[None].astype(np.float32)), 1, rtol=1e-3)
