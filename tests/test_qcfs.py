"""QCFS: the equation, its gradients, λ > 0, and that actors with it are read faithfully."""

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy import load_actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.qcfs import QCFS


def equation(z: np.ndarray, threshold: float, levels: int) -> np.ndarray:
    return threshold / levels * np.clip(np.floor(z * levels / threshold + 0.5), 0, levels)


@pytest.mark.parametrize(("levels", "threshold"), [(1, 1.0), (4, 1.0), (4, 2.5), (16, 0.125)])
def test_forward_is_the_equation(levels: int, threshold: float):
    z = np.linspace(-2 * threshold, 3 * threshold, 1001, dtype=np.float32)
    ours = QCFS(levels, threshold)(torch.from_numpy(z)).detach().numpy()
    np.testing.assert_allclose(ours, equation(z, threshold, levels), atol=1e-6 * threshold)
    assert len(np.unique(ours.round(5))) == levels + 1


def test_the_gradient_passes_straight_through_inside_and_nowhere_else():
    layer, z = QCFS(4, 1.0), torch.tensor([-0.2, -0.1, 0.3, 0.8, 0.9, 2.0], requires_grad=True)
    layer(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [0, 1, 1, 1, 0, 0]  # 0 < z·L/λ + ½ < L


@pytest.mark.parametrize(("z", "expected"), [(0.3, 0.25 - 0.15), (0.6, 0.25 - 0.3), (3.0, 1.0), (-1.0, 0.0)])
def test_the_gradient_of_lambda_is_the_straight_through_one(z: float, expected: float):
    """∂h/∂λ, the floor being the identity, is h/λ − z/λ inside, 1 above and 0 below; that of log λ is λ times it."""
    layer = QCFS(4, 2.0)
    layer(torch.tensor([z])).backward()
    assert layer.log_threshold.grad is not None
    assert layer.log_threshold.grad.item() == pytest.approx(2.0 * expected, abs=1e-6)


def test_lambda_follows_the_data_and_stays_positive():
    torch.manual_seed(0)
    z, layer = torch.rand(4096) * 0.5, QCFS(4, 4.0)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        (layer(z) - z).square().mean().backward()
        optimiser.step()
    assert 0.4 < layer.threshold < 0.7
    with torch.no_grad():
        layer.log_threshold.sub_(50.0)
    assert layer.threshold > 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="levels 0"):
        QCFS(0)
    with pytest.raises(ValueError, match=r"initial_lambda -1\.0"):
        QCFS(4, -1.0)


def test_an_actor_with_qcfs_layers_is_read_with_its_lambda_and_levels():
    torch.manual_seed(1)
    first, second = QCFS(4, 0.75), QCFS(8, 1.5)
    module = nn.Sequential(nn.Linear(5, 16), first, nn.Linear(16, 16), second, nn.Linear(16, 2), nn.Tanh())
    actor = load_actor(module)
    assert [layer.activation for layer in actor.hidden] == [
        Activation("qcfs", first.threshold, levels=4),
        Activation("qcfs", second.threshold, levels=8),
    ]
    observations = torch.randn(200, 5)
    ours, own = actor.act(observations.numpy()), module(observations).detach().numpy()
    assert np.mean(np.abs(ours - own).max(axis=1) < 1e-5) > 0.98  # a value on a step's edge may round either way
