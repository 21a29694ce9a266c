"""`torch.jit.load(path)(obs)` acts as the policy: every neuron, head and stage, batches, resets; no package of ours."""

import copy
import json
import subprocess
import sys
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.cli import main
from snn_policy.exporting import torchscript_module
from snn_policy.exporting.torchscript import export_torchscript
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    ALL_ACTIVATIONS,
    HEAD_KINDS,
    KINDS,
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    membrane_neurons,
    policies,
    random_actor,
    sigma_delta_neurons,
    walk,
)
from tests.test_without_torch import BLOCK

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
CALIBRATIONS = {
    "once": SpikeCalibration(),
    "adaptive": SpikeCalibration(adaptive=(0, 2)),
    "literal, long": SpikeCalibration(iterations=2, simulation_steps=11, rule="literal"),
}


def loaded(policy: SpikingPolicy, directory: Path, **options: Any) -> Any:
    """The policy's module, from its file."""
    policy.export_torchscript(directory / "policy.pt", verify=False, **options)
    return torch.jit.load(directory / "policy.pt")


@cache
def _file_of(kind: str) -> bytes:
    with TemporaryDirectory() as directory:
        made = policies()[kind].export_torchscript(Path(directory, "policy.pt"), verify=False)
        return made.file.read_bytes()


def of_kind(kind: str) -> Any:
    """The dyadic policy of that kind, loaded anew: what torch optimises in its first calls is its own."""
    return torch.jit.load(BytesIO(_file_of(kind)))


@cache
def _loaded_once(kind: str) -> Any:
    return of_kind(kind)


def copy_of_kind(kind: str) -> Any:
    """A copy of one that nobody calls: the memory is its own, the program is one for all copies, optimised once."""
    return copy.deepcopy(_loaded_once(kind))


def acts_alike(policy: SpikingPolicy, module: Any, observations: Any) -> bool:
    """Whether all actions are equal to the bit, types included; (steps, *shape) or (steps, rows, *shape)."""
    pairs = [(policy.act(obs), module(torch.from_numpy(np.array(obs))).numpy()) for obs in observations]
    return all(np.array_equal(ours, theirs) and np.asarray(ours).dtype == theirs.dtype for ours, theirs in pairs)


@pytest.mark.parametrize("rows", [None, 1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_and_coding_acts_as_the_policy_to_the_bit(kind: str, rows: int | None) -> None:
    policy, module = policies()[kind], of_kind(kind)
    observations = dyadic_observations(15, (4,) if rows is None else (rows, 4))
    assert acts_alike(policy, module, observations)
    policy.reset()
    module.reset_memory()
    assert acts_alike(policy, module, observations[::-1])
    assert acts_alike(policy, module, observations)  # on the memory that is there now


def decides_alike(policy: SpikingPolicy, module: Any, shape: tuple[int, ...] = (11,)) -> bool:
    """Whether actions and memories differ by rounding only, decision by decision from the policy's running state."""
    state, widths = policy.initial_state(4), list(policy.network.memory_widths)
    for obs in walk(40, (4, *shape), seed=1):
        module.memory = torch.from_numpy(np.concatenate([getattr(state, name) for name in widths], axis=1))
        action, state = policy.step(obs, state)
        if not np.allclose(module(torch.from_numpy(obs)).numpy(), action, atol=1e-5):
            return False
        after = np.concatenate([getattr(state, name) for name in widths], axis=1)
        if not np.allclose(module.memory.numpy(), after, atol=1e-4):
            return False
    return True


@pytest.mark.parametrize("base", [1.5, 3.0, 16.0])
def test_digits_of_any_base_are_exported(base: float, tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(12, 9)), walk(200), base=base, digits=(7, 8, 6))
    assert decides_alike(policy, loaded(policy, tmp_path))


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibrated_spikes_are_exported(name: str, tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(12, 9)), walk(200), neuron="if", timesteps=5, calibration=CALIBRATIONS[name])
    module = loaded(policy, tmp_path)
    assert decides_alike(policy, module)
    assert module.memory.shape[1] == 21 + (name == "adaptive")


@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda activation: activation.name)
def test_every_activation_differs_by_rounding_only(activation: Activation, tmp_path: Path) -> None:
    policy = convert(random_actor(activation=activation, widths=(12, 9), normalised=True), walk(200))
    assert decides_alike(policy, loaded(policy, tmp_path))


def test_a_qcfs_actor_of_if_neurons_is_exported(tmp_path: Path) -> None:
    policy = convert(random_actor(activation=Activation("qcfs", 1.5, 8), widths=(12, 9)), walk(200), neuron="if")
    assert decides_alike(policy, loaded(policy, tmp_path))


@pytest.mark.parametrize("settings", [{}, {"neuron": "if", "timesteps": 3}], ids=["sigma-delta", "if"])
def test_a_thousand_decisions_are_compared_at_export(settings: dict[str, Any], tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(8,)), walk(200), **settings)
    made = policy.export_torchscript(tmp_path / "new" / "policy.pt", observations=walk(300))
    assert [check.decisions for check in made.verification] == [1000, 100]
    assert max(check.action_difference for check in made.verification) < 1e-5
    assert made.file.is_file()


@pytest.mark.parametrize("kind", [*HEAD_KINDS, "several"])
@pytest.mark.parametrize("neuron", ["sigma-delta", "if"])
def test_every_head_gives_what_act_gives(neuron: str, kind: Any, tmp_path: Path) -> None:
    actor = dyadic_actor(kind="argmax" if kind == "several" else kind, outputs=5)
    if kind == "several":
        actor = Actor(actor.layers, Head.argmax([2, 3]), actor.observation_shape)
    neurons = sigma_delta_neurons(actor) if neuron == "sigma-delta" else membrane_neurons(actor)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    module = loaded(policy, tmp_path)
    if kind == "tanh":  # torch's tanh is not NumPy's to the bit
        for obs in dyadic_observations(20):
            assert np.allclose(policy.act(obs), module(torch.from_numpy(obs)).numpy(), atol=1e-6)
        return
    assert acts_alike(policy, module, dyadic_observations(20))
    policy.reset()
    module.reset_memory()
    assert acts_alike(policy, module, dyadic_observations(20, (3, 4)))


@pytest.mark.parametrize("neuron", ["sigma-delta", "if", "mt"])
@pytest.mark.parametrize("rows", [None, 2])
def test_pictures_go_through_convolutions(neuron: str, rows: int | None, tmp_path: Path) -> None:
    actor = dyadic_image_actor()
    neurons = sigma_delta_neurons(actor) if neuron == "sigma-delta" else membrane_neurons(actor, model=neuron)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    module, images = loaded(policy, tmp_path), image_walk(24)
    assert acts_alike(policy, module, images if rows is None else images.reshape(-1, rows, *images.shape[1:]))


def test_a_network_without_hidden_layers_is_exported(tmp_path: Path) -> None:
    actor = dyadic_actor(widths=())
    for neurons in (sigma_delta_neurons(actor), membrane_neurons(actor)):
        policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
        assert acts_alike(policy, loaded(policy, tmp_path), dyadic_observations(10, (2, 4)))


@pytest.mark.parametrize("change", [1, 3, 7])
def test_another_batch_size_needs_a_reset(change: int) -> None:
    module = copy_of_kind("if-rate")
    module(torch.zeros(2, 4))
    kept = module.memory.clone()
    with pytest.raises(Exception, match=rf"a batch of {change}, but .* memory of 2 row\(s\); call reset_memory\(\)"):
        module(torch.zeros(change, 4))
    assert torch.equal(kept, module.memory)
    module.reset_memory()
    assert module(torch.zeros(change, 4)).shape == (change, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full(4, np.nan), "NaN, infinity"),
        (np.full(4, -np.inf), "NaN, infinity"),
        (np.full(4, 1e31), "so large"),
        (np.zeros(3), r"shape \[3\], expected"),
        (np.zeros((1, 5)), r"shape \[1, 5\], expected"),
        (np.zeros((0, 4)), r"shape \[0, 4\], expected"),
        (np.zeros((1, 1, 4)), r"shape \[1, 1, 4\], expected"),
        (np.float32(1), r"shape \[\], expected"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["sigma-delta", "snm-rate"])
def test_wrong_observations_leave_the_memory_untouched(kind: str, wrong: Any, message: str) -> None:
    module = copy_of_kind(kind)
    module(torch.ones(4))
    kept = module.memory.clone()
    with pytest.raises(Exception, match=message):
        module(torch.tensor(wrong))
    assert torch.equal(kept, module.memory)
    module(torch.ones(4))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_begin_anew_by_a_mask(kind: str) -> None:
    policy, module, rng = policies()[kind], copy_of_kind(kind), np.random.default_rng(0)
    policy.reset(num_envs=3)
    for obs in dyadic_observations(12, (3, 4)):
        assert acts_alike(policy, module, [obs])
        mask = rng.integers(0, 2, 3).astype(bool)
        policy.reset(mask)
        module.reset_rows(torch.from_numpy(mask if mask[0] else mask.astype(np.int64)))  # dones come as either
    with pytest.raises(Exception, match=r"mask: shape \[2\], expected \[3\]"):
        module.reset_rows(torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("dtype", ["float64", "int64", "float16"])
def test_any_real_dtype_is_taken(dtype: str) -> None:
    module = copy_of_kind("sigma-delta")
    twin = copy.deepcopy(module)
    for obs in torch.from_numpy(dyadic_observations(6)).round():
        assert torch.equal(module(obs.to(getattr(torch, dtype))), twin(obs))


def test_modules_copies_and_states_have_memories_of_their_own() -> None:
    module = of_kind("sigma-delta")
    other = of_kind("sigma-delta")
    observations = torch.from_numpy(dyadic_observations(20))
    for obs in observations[:10]:
        module(obs)
    assert other.memory.shape[0] == 0
    twin, kept = copy.deepcopy(module), module.memory.clone()
    wanted = [module(obs) for obs in observations[10:]]
    assert all(torch.equal(twin(obs), action) for obs, action in zip(observations[10:], wanted, strict=True))
    module.memory = kept
    assert torch.equal(module(observations[10]), wanted[0])


@pytest.mark.parametrize("mode", ["inference_mode", "no_grad", "enable_grad"])
def test_gradients_never_flow_and_modes_may_change(mode: str) -> None:
    policy, module = policies()["if-rate"], of_kind("if-rate")
    observations = dyadic_observations(12)
    for step, obs in enumerate(observations):
        with getattr(torch, mode)() if step % 3 else torch.enable_grad():
            action = module(torch.from_numpy(obs).requires_grad_(mode != "inference_mode"))
        assert not action.requires_grad
        assert np.array_equal(action.numpy(), policy.act(obs))


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_moves_to_another_device(kind: str) -> None:
    # "meta" computes no values, and refuses every tensor that lies elsewhere
    module = copy_of_kind(kind).to("meta")
    assert {buffer.device.type for buffer in module.buffers()} == {"meta"}
    action, memory = module.decision(torch.zeros(3, 4, device="meta"), torch.zeros(3, module.memory.size(1)).to("meta"))
    assert (action.device.type, memory.device.type) == ("meta", "meta")


def test_calibration_and_pictures_move_as_well(tmp_path: Path) -> None:
    image = dyadic_image_actor(kind="argmax")
    for policy in (
        convert(random_actor(widths=(12, 9)), walk(200), neuron="if", calibration=CALIBRATIONS["adaptive"]),
        SpikingPolicy(SpikingNetwork(image, sigma_delta_neurons(image)), engine="numpy"),
    ):
        module = loaded(policy, tmp_path).to("meta")
        obs, memory = torch.zeros(2, *policy.observation_shape), torch.zeros(2, module.memory.size(1))
        assert module.decision(obs.to("meta"), memory.to("meta"))[0].device.type == "meta"


def test_a_frozen_module_keeps_its_memory() -> None:
    policy, module = policies()["mt-rate"], of_kind("mt-rate").eval()
    frozen = torch.jit.freeze(module, preserved_attrs=["reset_memory"])
    assert acts_alike(policy, frozen, dyadic_observations(20))
    policy.reset()
    frozen.reset_memory()
    assert acts_alike(policy, frozen, dyadic_observations(20, (2, 4)))


ALONE = (
    BLOCK.replace('("torch", "onnx", "onnxscript", "stable_baselines3", "sb3_contrib")', '("snn_policy",)')
    + """
import torch
observations, policy = torch.tensor(eval(sys.argv[2])), torch.jit.load(sys.argv[1])
policy.reset_memory()
print([policy(obs.unsqueeze(0)).squeeze(0).tolist() for obs in observations])
policy.reset()
print(policy(observations).shape[0], any(name.startswith("snn_policy") for name in sys.modules))
"""
)


@pytest.mark.parametrize("kind", ["sigma-delta", "if-rate", "mt-differential"])
def test_a_process_that_has_only_torch_acts_alike(kind: str, tmp_path: Path) -> None:
    policy, observations = policies()[kind], dyadic_observations(8)
    (tmp_path / "policy.pt").write_bytes(_file_of(kind))
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path / "policy.pt"), str(observations.tolist())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    actions, last = done.stdout.splitlines()
    assert json.loads(actions) == [policy.act(obs).tolist() for obs in observations]
    assert last == "8 False"


def test_the_file_says_what_it_is_and_not_where_it_was_made(tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(12, 9)), walk(200), neuron="if", calibration=CALIBRATIONS["adaptive"])
    policy.export_torchscript(tmp_path / "policy.pt", verify=False, control_period=0.02)
    found = {"policy.json": ""}
    module = torch.jit.load(tmp_path / "policy.pt", _extra_files=found)
    about = json.loads(found["policy.json"])
    assert about["format"] == "snn-policy-torchscript"
    assert (about["neuron"], about["timesteps"], about["control_period"]) == ("if", policy.timesteps, 0.02)
    assert about["low"] == policy.low.tolist()
    assert [(record["name"], record["columns"]) for record in about["memory"]] == [
        ("residual", [0, 21]), ("extra_iterations", [21, 22])
    ]  # fmt: skip
    assert module.memory.shape == (0, 22)
    assert all(hasattr(module, name) for name in about["methods"])
    with zipfile.ZipFile(tmp_path / "policy.pt") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(torchscript_module.__file__).parents[2]).encode() not in content


@pytest.mark.parametrize("fault", ["weight", "threshold", "carried"])
def test_a_module_that_acts_otherwise_is_not_written(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, observations = random_actor(widths=(12, 9)), walk(200)
    policy = convert(actor, observations, neuron="if", alpha=0.5, timesteps=4)
    thresholds = policy.network.neurons.thresholds  # pyright: ignore[reportAttributeAccessIssue]
    wrong = {
        "weight": lambda: convert(_heavier(actor), observations, neuron="if", alpha=0.5, timesteps=4,
                                  threshold=thresholds),
        "threshold": lambda: convert(actor, observations, neuron="if", alpha=0.5, timesteps=4,
                                     threshold=[1.02 * threshold for threshold in thresholds]),
        "carried": lambda: convert(actor, observations, neuron="if", alpha=0.4, timesteps=4, threshold=thresholds),
    }[fault]().network  # fmt: skip
    make = torchscript_module.script_module
    monkeypatch.setattr(torchscript_module, "script_module", lambda network, *rest: make(wrong, *rest))
    (tmp_path / "policy.pt").write_bytes(b"an older one")
    with pytest.raises(ValueError, match="does not act as the policy, nothing is written"):
        policy.export_torchscript(tmp_path / "policy.pt", observations=observations)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]


def _heavier(actor: Actor) -> Actor:
    last: Any = actor.layers[-1]
    return Actor((*actor.hidden, Linear(last.weight * np.float32(1.01), last.bias)), actor.head, (11,))


def test_memories_are_those_of_the_onnx_graph() -> None:
    for kind, policy in policies().items():
        expected = {"sigma-delta": ["memory"], "sigma-delta-carrying": ["memory", "residual"]}.get(kind, ["residual"])
        assert list(policy.network.memory_widths) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [({"control_period": 0}, "expected seconds"), ({"control_period": "fast"}, "control_period"),
     ({"observations": np.zeros((5, 3))}, "observations"), ({"observations": np.full((5, 4), np.nan)}, "observations")],
)  # fmt: skip
def test_wrong_arguments_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        policies()["if-rate"].export_torchscript(tmp_path / "policy.pt", **options)
    with pytest.raises(ValueError, match="a directory; expected a file"):
        export_torchscript(policies()["if-rate"].bundle, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_torch_one_line_names_the_extra(tmp_path: Path) -> None:
    policies()["if-rate"].save(tmp_path)
    program = BLOCK + "from snn_policy.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "export", str(tmp_path), "--torchscript"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("needs torch: pip install 'snn-policy[convert]'")
    assert "Traceback" not in done.stderr


def test_the_command_writes_it_and_says_how_it_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies()["if-rate"].save(tmp_path / "bundle")
    command = ["export", str(tmp_path / "bundle"), "--torchscript", "--out", str(tmp_path / "robot")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "policy.pt on a random walk: 1000 decisions, flip rate 0.0e+00" in said
    assert "torch.jit.load" in said
    assert main([*command, "--json", "--no-verify"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["files"], document["verification"]) == (["policy.pt"], [])
    assert torch.jit.load(tmp_path / "robot" / "policy.pt")(torch.zeros(1, 4)).shape == (1, 2)
    assert main([*command, "--c"]) == 2
    assert "--c and --torchscript: one form at a time" in capsys.readouterr().err


def test_relu_is_what_the_dyadic_networks_have() -> None:
    assert {layer.activation for layer in dyadic_actor().hidden} == {RELU}
