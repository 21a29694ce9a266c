"""Convolutional torch policies that cannot be read are refused by name, with the way out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.pixels import SHAPE, Pixels, difference, norm, read


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(4, 4, 3, dilation=2), "dilation=1"), (nn.Conv2d(4, 4, 3, groups=2), "groups=1"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='zeros'"),
        (nn.Conv2d(4, 4, 2, padding="same"), "odd kernel"), (nn.ConvTranspose2d(4, 4, 3), "two-dimensional"),
        (nn.MaxPool2d(2), "average pooling or with a stride"), (nn.AdaptiveMaxPool2d(1), "average pooling"),
        (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode=False"), (nn.AvgPool2d(2, padding=1), "padding=0"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "padding=0"), (nn.LPPool2d(2, 2), "AvgPool2d"),
        (nn.AvgPool2d(2, divisor_override=3), "AvgPool2d"), (nn.AdaptiveAvgPool2d(7), "size that divides"),
        (nn.InstanceNorm2d(4), "BatchNorm2d"), (nn.ZeroPad2d(1), "its zero padding"),
        (nn.BatchNorm2d(4, track_running_stats=False), "track_running_stats"),
        (nn.Linear(10, 10), "Flatten them"), (nn.Upsample(scale_factor=2), "no rule"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_a_refused_layer_is_named_with_path_type_and_remedy(layer: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        read(nn.Conv2d(3, 4, 3), nn.ReLU(), layer, nn.ReLU())
    assert (caught.value.path, caught.value.kind) == ("body.2", type(layer).__name__)
    assert caught.value.remedy


@pytest.mark.parametrize("layer", [nn.LayerNorm([4, 12, 10]), nn.GroupNorm(2, 4), nn.Flatten(2)])
def test_norms_between_convolutions_are_read(layer: nn.Module) -> None:
    actor, module = read(nn.Conv2d(3, 4, 3), nn.ReLU(), layer, nn.ReLU())
    assert difference(actor, module) <= 1e-5


def test_the_layer_normalisation_of_a_trunk_is_read() -> None:
    trunk = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(480, 8), nn.LayerNorm(8), nn.Tanh())
    actor, module = read(*trunk)
    assert difference(actor, module) <= 1e-5
    assert "layer norm tanh" in {stage.cell.kind for stage in actor.graph.stages}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)], None),  # goes into the observation's normaliser
        ([nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)], "before its zero padding"),
        ([nn.Conv2d(3, 3, 3), nn.Sigmoid(), nn.Conv2d(3, 4, 3, padding=1)], "ReLU or tanh"),
        ([nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AvgPool2d(3, 2), nn.Conv2d(3, 4, 3, padding=1)], "instead of pooling"),
        ([nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 3, padding=1)], "do not merge"),
        ([nn.Conv2d(3, 3, 4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1)], "do not merge"),  # 11 rows
    ],
)  # fmt: skip
def test_padding_after_a_shift_or_a_pool_is_refused_unless_it_is_exact(body: list[Any], reason: str | None) -> None:
    body = [norm(layer) if isinstance(layer, nn.BatchNorm2d) else layer for layer in body]
    if reason is None:
        actor, module = read(*body, nn.ReLU())
        assert difference(actor, module) <= 1e-5
        return
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        read(*body, nn.ReLU())
    assert (caught.value.path, caught.value.kind) == (f"body.{len(body) - 1}", "Conv2d")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda x: x.permute(0, 2, 3, 1), "channel-first"), (lambda x: x.transpose(1, 3), "channel-first"),
        (lambda x: x[:, :2], "selects"), (lambda x: F.pad(x, (1, 1)), "padding"),
        (lambda x: F.max_pool2d(x, 2), "average pooling"), (lambda x: x.mean(1), "height and width"),
        (lambda x: x.flatten(2), "flatten"), (lambda x: x.reshape(-1, 4, 10, 12), "Flatten"),
        (lambda x: x * torch.linspace(0.5, 2, 12), "one constant per channel"),
        (lambda x: x * torch.rand(12), "it is random"),
    ],
)  # fmt: skip
def test_a_forward_that_reorders_or_crops_images_is_refused(prepare: Any, reason: str) -> None:
    class Prepared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, (3, 1)), nn.Conv2d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(prepare(F.relu(self.first(x)))).flatten(1)

    if reason == "Flatten":  # the same values, read in another order: a reshape of equal size is exact
        assert load_actor(Prepared(), observation_shape=(3, 12, 12)).widths == (432, 480)
        return
    with pytest.raises(UnsupportedLayerError, match=reason):
        load_actor(Prepared(), observation_shape=SHAPE)


def test_the_size_of_the_images_must_be_given_and_fit() -> None:
    module = Pixels(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(SourceError, match=r"pass observation_shape=\(3, height, width\)"):
        load_actor(module)
    with pytest.raises(SourceError, match=r"takes images of 3 channels, but gets \(14, 12, 3\); .*channel-first"):
        load_actor(module, observation_shape=(14, 12, 3))
    with pytest.raises(SourceError, match=r"takes images of 3 channels, but gets \(9, 14, 12\)"):
        load_actor(module, observation_shape=(9, 14, 12))
    with pytest.raises(SourceError, match="last takes 480 inputs, but gets 240"):
        load_actor(module, observation_shape=(3, 8, 12))
    with pytest.raises(SourceError, match=r"kernel of \(3, 3\), too large for images \(3, 2, 12\)"):
        load_actor(module, observation_shape=(3, 2, 12))
    with pytest.raises(UnsupportedLayerError, match=r"takes images, but values have shape \(504,\)"):
        load_actor(module, observation_shape=(504,))


def test_weights_that_are_not_finite_are_refused() -> None:
    module = Pixels(nn.Conv2d(3, 4, 3), nn.ReLU())
    with torch.no_grad():
        module.body[0].weight[0, 0, 0, 0] = float("inf")  # pyright: ignore
    with pytest.raises(SourceError, match=r"body\.0 \(Conv2d\) holds NaN or infinity"):
        load_actor(module, observation_shape=SHAPE)
