"""Checkpoints whose weights are no floating-point numbers are refused by the array's name, type and shape."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy import UnsupportedLayerError, load_actor

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
STATE = {f"actor.{key}": value for key, value in NET.state_dict().items()}


def quantised(values: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(values, 0.05, 0, torch.qint8)


KINDS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "int8": (lambda values: (values * 100).to(torch.int8), r"\(int8 "),
    "uint8": (lambda values: (values.abs() * 100).to(torch.uint8), r"\(uint8 "),
    "int64": (lambda values: (values * 100).long(), r"\(int64 "),
    "bool": (lambda values: values > 0, r"\(bool "),
    "complex": (lambda values: values.numpy().astype(np.complex64), r"\(complex64 .*real"),
    "objects": (lambda values: values.numpy().astype(object), r"\(object "),
    "texts": (lambda values: values.numpy().astype(str), r"\(<?U32 "),
    "quantised": (quantised, r"\((qint8|quantised) .*Dequantise"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("key", ["actor.0.weight", "actor.2.weight", "actor.2.bias"])
@pytest.mark.parametrize("where", ["live", "file"])
def test_what_is_no_floating_point_number_is_refused_by_its_name(
    name: str, key: str, where: str, tmp_path: Path
) -> None:
    make, told = KINDS[name]
    state: Any = STATE | {key: make(STATE[key])}
    if where == "file":
        torch.save({"model": state, "epoch": 3}, tmp_path / "policy.pt")
        state = tmp_path / "policy.pt"
    with pytest.raises(UnsupportedLayerError, match=rf"{re.escape(key)} {told}") as caught:
        load_actor(state, activation="relu")
    assert "\n" not in str(caught.value)


def test_scales_beside_whole_numbers_or_a_packed_shape_change_nothing() -> None:
    scaled = {"actor.0.weight": torch.ones(16, 8, dtype=torch.int8), "actor.0.weight_scale": torch.ones(16)}
    with pytest.raises(UnsupportedLayerError, match=r"actor\.0\.weight \(int8 \(16, 8\)\).*Dequantise"):
        load_actor(STATE | scaled, activation="relu", prefix="actor")
    packed = {"actor.0.weight": torch.ones(64, 1, dtype=torch.uint8), "actor.0.weight.absmax": torch.ones(2)}
    with pytest.raises(UnsupportedLayerError, match=r"actor\.0\.weight \(uint8 \(64, 1\)\)"):
        load_actor(STATE | packed, activation="relu")


@pytest.mark.parametrize(
    "names", [("qweight", "qzeros", "scales"), ("scale", "zero_point"), ("weight._data", "weight._scale")]
)
def test_where_weights_go_by_other_names_the_error_says_that_they_are_quantised(names: tuple[str, ...]) -> None:
    state = {f"actor.{layer}.{name}": torch.ones(4, 4, dtype=torch.int32) for layer in (0, 2) for name in names}
    with pytest.raises(UnsupportedLayerError, match=r"actor\.0\..* \(quantised\).*Dequantise"):
        load_actor(state, activation="relu")


def test_safetensors_of_whole_numbers_are_refused_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: (value * 50).to(torch.int8) for key, value in STATE.items()}, str(tmp_path / "policy.safetensors"))
    with pytest.raises(UnsupportedLayerError, match=r"actor\.0\.weight \(int8"):
        load_actor(tmp_path / "policy.safetensors", activation="relu")


@pytest.mark.parametrize(
    "beside",
    [{"global_step": torch.tensor(7)}, {"obs.num_batches_tracked": torch.tensor(2)},
     {"critic.0.weight": torch.ones(4, 8, dtype=torch.int8)}, {"rng_state": torch.zeros(9, dtype=torch.uint8)},
     {"obs_normalizer.mean": torch.zeros(8, dtype=torch.int64), "obs_normalizer.var": torch.ones(8)}],
)  # fmt: skip
def test_whole_numbers_that_are_no_weights_of_the_policy_are_admitted(beside: dict[str, torch.Tensor]) -> None:
    assert load_actor(STATE | beside, activation="relu").observation_shape == (8,)
