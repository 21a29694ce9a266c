"""Torch modules: what is read equals what they compute; what cannot be read is refused by name."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor


def difference(actor: Actor, module: nn.Module) -> float:
    """The largest difference between the two on 1,000 observations."""
    obs = np.random.default_rng(0).standard_normal((1000, *actor.observation_shape)).astype(np.float32)
    with torch.no_grad():
        own = copy.deepcopy(module).eval()(torch.from_numpy(obs)).numpy()
    return float(np.abs(own - actor.act(obs)).max())


def trained_batch_norm(width: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(width)
    for values in (layer.running_mean, layer.weight.data, layer.bias.data):
        assert values is not None
        values.normal_()
    assert layer.running_var is not None
    layer.running_var.uniform_(0.5, 2)
    return layer


class CleanRL(nn.Module):
    """Observation statistics, functional layers and the action rescale, all within the module."""

    mean: torch.Tensor
    var: torch.Tensor
    action_scale: torch.Tensor
    action_bias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.mu = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.register_buffer("mean", torch.randn(5))
        self.register_buffer("var", torch.rand(5) + 0.1)
        self.register_buffer("action_scale", torch.tensor([2.0, 0.5]))
        self.register_buffer("action_bias", torch.tensor([1.0, 0.0]))

    def forward(self, x: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        x = x.view(x.size(0), -1)
        x = torch.clamp((x - self.mean) / torch.sqrt(self.var + 1e-8), -1.5, 1.5)
        x = F.dropout(F.relu(self.fc1(x)), 0.3, training=self.training)
        x = self.fc2(x)
        x = x * torch.sigmoid(x)
        mean = torch.tanh(self.mu(x)) * self.action_scale + self.action_bias
        return mean if deterministic else mean + torch.randn_like(mean)


class Functional(nn.Module):
    """fc1 → body → fc2, with the body given as a function."""

    def __init__(self, body, head=lambda y: y) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)
        self.body, self.head = body, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.fc2(self.body(self.fc1(x))))


def test_cleanrl_normaliser_and_rescale_buffers_are_read() -> None:
    torch.manual_seed(0)
    module = CleanRL()
    actor = load_actor(module, env_id="Mine-v0")
    assert difference(actor, module) <= 1e-5
    assert actor.low == pytest.approx([-1, -0.5])
    assert actor.high == pytest.approx([3, 0.5])
    assert actor.normaliser is not None
    assert actor.normaliser.clip == 1.5
    assert actor.widths == (5, 16, 16)
    assert (actor.name, actor.env_id) == ("CleanRL", "Mine-v0")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (torch.relu, "relu"), (F.relu, "relu"), (lambda x: x.relu(), "relu"), (lambda x: x.clamp(min=0), "relu"),
        (lambda x: torch.maximum(x, torch.zeros(1)), "relu"), (lambda x: x.relu_(), "relu"),
        (torch.tanh, "tanh"), (lambda x: x.tanh(), "tanh"), (torch.sigmoid, "tanh"), (F.silu, "silu"),
        (lambda x: torch.sigmoid(x) * x, "silu"), (F.elu, "elu"), (lambda x: F.elu(x, alpha=0.5), "elu"),
        (F.leaky_relu, "leaky_relu"), (lambda x: F.leaky_relu(x, 0.2), "leaky_relu"),
        (lambda x: 1 - 2 * F.relu(3 * x + 1) / 7, "relu"), (lambda x: -F.dropout(x, training=False).relu(), "relu"),
    ],
)  # fmt: skip
def test_functional_activations_are_read(body, name: str) -> None:
    module = Functional(body)
    actor = load_actor(module)
    activation = actor.layers[0].activation
    assert activation is not None
    assert activation.name == name
    assert difference(actor, module) <= 1e-5


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (torch.tanh, "tanh"), (torch.sigmoid, "tanh"), (lambda y: torch.clamp(y, -0.3, 0.2), "clip"),
        (lambda y: y, "clip"), (torch.relu, "clip"), (lambda y: F.hardtanh(y, -2, 2).tanh() * -3, "tanh"),
        (lambda y: (2 * y.tanh()).clamp(-0.1, 0.4) * 5 + 1, "tanh"), (lambda y: y.clamp(-0.1, 0.2) * -2 + 1, "clip"),
        (lambda y: y.chunk(2, dim=-1)[0].tanh(), "tanh"), (lambda y: y.split([1, 3], dim=1)[1], "clip"),
        (lambda y: y.tanh()[..., 1:3] * 2, "tanh"), (lambda y: y[:, [2, 0]], "clip"),
        (lambda y: y.argmax(-1), "argmax"), (lambda y: torch.argmax(F.softmax(y, -1), dim=1), "argmax"),
        (lambda y: y.flatten(1).reshape(-1, 4), "clip"),
    ],
)  # fmt: skip
def test_heads_are_read(head, kind: str) -> None:
    module = Functional(torch.relu, head)
    actor = load_actor(module)
    assert actor.head.kind == kind
    assert difference(actor, module) <= 1e-5


def test_batch_norm_folds_before_and_after_linear_and_activation() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(
        trained_batch_norm(4), nn.Linear(4, 16), trained_batch_norm(16), nn.ReLU(), trained_batch_norm(16),
        nn.Dropout(0.5), nn.Linear(16, 3), trained_batch_norm(3), nn.Tanh(),
    )  # fmt: skip
    actor = load_actor(module)
    assert len(actor.layers) == 2
    assert difference(actor, module) <= 1e-5


def test_linear_layers_without_an_activation_between_merge() -> None:
    module = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 5), nn.ReLU(), nn.Sequential(nn.Identity(), nn.Linear(5, 2)))
    actor = load_actor(module)
    assert actor.widths == (4, 5)
    assert difference(actor, module) <= 1e-5


@pytest.mark.parametrize("low", [-1.0, (-1.0, -0.2, -2.0, -1.0)])
def test_any_box_clips_the_observation(low: float | tuple[float, ...]) -> None:
    class Clipped(Functional):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.clamp(-2 * x + 0.1, torch.tensor(low), torch.tensor(0.5)))

    module = Clipped(torch.relu)
    assert difference(load_actor(module), module) <= 1e-5


def test_observations_of_any_shape_are_flattened() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    assert difference(load_actor(module, observation_shape=(2, 3)), module) <= 1e-6
    with pytest.raises(SourceError, match=r"6 inputs, which do not fit observations \(2, 4\)"):
        load_actor(module, observation_shape=(2, 4))


def test_bounds_clip_the_action_and_are_infinite_otherwise() -> None:
    module = nn.Linear(3, 2)
    assert np.isinf(load_actor(module).low).all()
    actor = load_actor(module, low=-0.1, high=[0.1, 0.2])
    action = actor.act(100 * np.random.default_rng(0).standard_normal((100, 3)))
    assert (action.min(axis=0), action.max(axis=0)) == (pytest.approx([-0.1, -0.1]), pytest.approx([0.1, 0.2]))
    with pytest.raises(SourceError, match="low must not exceed high"):
        load_actor(module, low=1, high=0)
    with pytest.raises(SourceError, match="expected a number or 2"):
        load_actor(module, low=[0, 0, 0])


def test_double_precision_and_parametrised_weights_are_read() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.PReLU(), nn.Linear(4, 1)).double()
    obs = np.random.default_rng(0).standard_normal((1000, 3))
    with torch.no_grad():
        own = module(torch.from_numpy(obs)).numpy()
    assert np.abs(own - load_actor(module).act(obs)).max() <= 1e-5


def test_the_users_module_stays_as_it_was_and_only_a_copy_is_called() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(trained_batch_norm(4), nn.ReLU()), nn.Linear(4, 1)).train()
    called = list[nn.Module]()
    for part in module.modules():
        part.register_forward_hook(lambda part, *_: called.append(part))
        part.register_forward_pre_hook(lambda part, *_: called.append(part))
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(UserWarning, match="hooks on .* are not part of the conversion"):
        load_actor(module)
    assert not set(called) & set(module.modules())
    assert all(part.training for part in module.modules())
    assert all(len(part._forward_hooks) == 1 for part in module.modules())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv1d(1, 1, 3), "convolutions"), (nn.MaxPool1d(2), "average pooling"),
        (nn.Hardshrink(), "Retrain with ReLU"), (nn.Threshold(0.1, 0.5), "jumps"),
        (nn.Softplus(threshold=1), "Retrain"),
        (nn.LSTM(8, 8), "recurrent"), (nn.Softmax(-1), "argmax"),
        (nn.BatchNorm1d(8, track_running_stats=False), "track_running_stats"),
        (nn.MultiheadAttention(8, 1), "feed-forward"), (nn.Flatten(0), "no rule"),
    ],
)  # fmt: skip
def test_a_refused_layer_is_named_with_path_type_and_remedy(layer: nn.Module, reason: str) -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Identity(), layer), nn.Linear(8, 1))
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        load_actor(module)
    assert (caught.value.path, caught.value.kind) == ("1.1", type(layer).__name__)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (F.hardshrink, "Retrain"),
        (lambda x: x if x.sum() > 0 else -x, "ONNX export"), (lambda x: F.dropout(x), "training=self.training"),
        (lambda x: x + torch.randn_like(x), "joins"), (lambda x: x**5 + x, "joins|power"),
        (lambda x: x.flatten(), "flatten"),
        (lambda x: x.reshape(-1, 4), "rows of 4"), (lambda x: torch.tensor(x.tolist()), "ONNX export"),
        (lambda x: x.relu().add(1, alpha=2), "options"), (lambda x: x.relu()[:, 0], "selects"),
        (lambda x: x.int(), "no rule"), (lambda x: x.to(torch.int64), "rounds"), (lambda x: x * 0 + 1 / x, "joins"),
    ],
)  # fmt: skip
def test_a_forward_that_is_no_chain_of_supported_steps_is_refused(body, reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason):
        load_actor(Functional(body))


class InPlace(Functional):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        F.relu_(x)
        return self.fc2(x)


class Several(Functional):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # pyright: ignore
        return self.fc1(x), x


class TwoInputs(Functional):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return self.fc1(x) if hidden.sum() > 0 else x


class Constant(Functional):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc1.bias


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (InPlace, "in-place"),
        (Several, "several values"),
        (TwoInputs, "branches on values"),
        (Constant, "does not depend"),
    ],
)
def test_what_a_trace_cannot_see_is_refused(kind: type[Functional], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=reason):
        load_actor(kind(torch.relu))


def test_old_weight_norm_names_the_way_out_and_scripted_modules_are_read() -> None:
    with pytest.warns(FutureWarning):
        normed = nn.utils.weight_norm(nn.Linear(2, 2))
    with pytest.raises(UnsupportedLayerError, match="remove_weight_norm"):
        load_actor(normed)
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.script(nn.Linear(2, 2))
    assert np.array_equal(load_actor(scripted).layers[0].weight, scripted.weight.detach().numpy())  # pyright: ignore


def test_weights_that_are_not_finite_are_refused() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        module[2].weight[0, 0] = float("nan")  # pyright: ignore
    with pytest.raises(SourceError, match=r"2 \(Linear\) holds NaN"):
        load_actor(module)
