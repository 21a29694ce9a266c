"""IF networks as NIR graphs: read back, and run from the graph and its metadata alone by an interpreter of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.cli import main
from snn_policy.exporting import nir_graph
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    HEAD_KINDS,
    IMAGE,
    KINDS,
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    make_head,
    membrane_neurons,
    policies,
    random_actor,
    walk,
)

nir = pytest.importorskip("nir")


class Host:
    """Runs a file as its metadata says, with nothing of the package: what a NIR user would write."""

    def __init__(self, file: Path) -> None:
        graph = nir.read(file)
        self.said = graph.metadata
        order, edges = ["input"], dict(graph.edges)
        while order[-1] in edges:
            order.append(edges[order[-1]])
        self.nodes = [graph.nodes[name] for name in order]
        self.residual: list[Any] = []

    def act(self, obs: Any) -> Any:
        said, x = self.said, np.asarray(obs, np.float32)
        if "normaliser_mean" in said:
            x = (x - said["normaliser_mean"]) / said["normaliser_scale"]
            x = np.clip(x, -said["normaliser_clip"], said["normaliser_clip"])
        x = x.reshape(self.nodes[0].input_type["input"])
        neurons = [node for node in self.nodes if isinstance(node, nir.IF)]
        carried = self.residual or [0 * node.v_threshold for node in neurons]
        starts = []
        for node, alpha, r in zip(neurons, said.get("alpha", ()), carried, strict=True):
            bound = said["alpha_clip"] * node.v_threshold
            starts.append(node.v_threshold / 2 + np.clip(alpha * r, -bound, bound))
        v, counts, total = [values.copy() for values in starts], [0 * values for values in starts], 0.0
        for _ in range(said["timesteps"]):
            signal, place = x, 0
            for node in self.nodes:
                if isinstance(node, nir.IF):
                    v[place] = v[place] + said["dt"] * node.r * signal
                    spikes = (v[place] > node.v_threshold).astype(np.float32)
                    v[place], counts[place] = v[place] - node.v_threshold * spikes, counts[place] + spikes
                    signal, place = spikes, place + 1
                else:
                    signal = through(node, signal)
            total = total + signal
        self.residual = [end - start for end, start in zip(v, starts, strict=True)]
        if said["residual"] == "bounded":
            net = [node.v_threshold * count for node, count in zip(neurons, counts, strict=True)]
            self.residual = [np.maximum(r, -m) for r, m in zip(self.residual, net, strict=True)]
        return self.head(np.ravel(total / said["timesteps"]))

    def head(self, y: Any) -> Any:
        said = self.said
        if said["head"] == "argmax":
            ends = np.cumsum(said["head_choices"])
            chosen = [int(np.argmax(part)) for part in np.split(y, ends[:-1])]
            return np.array(chosen) if "action_shape" in said else chosen[0]
        if said["head"] == "tanh":
            reach = said["head_pre_clip"]
            y = np.tanh(np.clip(y, -reach, reach)) * said["head_scale"] + said["head_offset"]
        return np.clip(y, said["head_low"], said["head_high"])


def through(node: Any, x: Any) -> Any:
    match type(node).__name__:
        case "Input" | "Output":
            return x
        case "Affine":
            return node.weight @ x + node.bias
        case "Linear":
            return node.weight @ x
        case "Scale":
            return node.scale * x
        case "Flatten":
            return x.ravel()
        case "Conv2d":
            return convolved(x, node)
        case other:
            raise AssertionError(other)


def convolved(x: Any, node: Any) -> Any:
    (down, right), (vertical, horizontal) = node.stride, node.padding
    padded = np.pad(x, ((0, 0), (vertical, vertical), (horizontal, horizontal)))
    height, width = node.weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))[:, ::down, ::right]
    return np.einsum("oihw,iabhw->oab", node.weight, windows) + node.bias[:, None, None]


def exported(policy: SpikingPolicy, directory: Path, **options: Any) -> Host:
    policy.export_nir(directory / "policy.nir", **{"verify": False, **options})
    return Host(directory / "policy.nir")


def square_image_actor(kind: Any = "clip") -> Actor:
    """Two convolutions with square kernels, padded and strided, a hidden and a last linear layer, dyadic."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return (rng.integers(-20, 21, shape) / 64).astype(np.float32)

    first = Conv2d(drawn(5, 3, 3, 3), drawn(5), IMAGE, (2, 1), (1, 0), RELU)
    second = Conv2d(drawn(4, 5, 2, 2), drawn(4), first.output_shape, (1, 2), (0, 2), RELU)
    dense = Linear(drawn(6, second.outputs), drawn(6), RELU), Linear(drawn(2, 6), drawn(2))
    half = np.full((1, 1, 1), 128, np.float32)
    return Actor((first, second, *dense), make_head(kind, 2), IMAGE, Normaliser(half, half))


def if_policy(actor: Actor, **settings: Any) -> SpikingPolicy:
    return SpikingPolicy(SpikingNetwork(actor, membrane_neurons(actor, **settings)), engine="numpy")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("residual", ["bounded", "plain"])
def test_the_graph_and_its_metadata_give_the_policys_actions(residual: Any, alpha: float, tmp_path: Path) -> None:
    policy = if_policy(dyadic_actor(), alpha=alpha, residual=residual)
    host = exported(policy, tmp_path)
    for obs in dyadic_observations(60):
        assert np.array_equal(host.act(obs), policy.act(obs))
    policy.reset()
    host.residual = []
    assert np.array_equal(host.act(dyadic_observations(1)[0]), policy.act(dyadic_observations(1)[0]))


@pytest.mark.parametrize("kind", [*HEAD_KINDS, "several"])
def test_every_head_and_the_normaliser_are_in_the_metadata(kind: Any, tmp_path: Path) -> None:
    actor = random_actor(kind="argmax" if kind == "several" else kind, widths=(12, 9), outputs=5, normalised=True)
    if kind == "several":
        actor = Actor(actor.layers, Head.argmax([2, 3]), (11,), actor.normaliser)
    policy = convert(actor, walk(200), neuron="if", timesteps=5, alpha=0.0)
    host = exported(policy, tmp_path)
    for obs in walk(60, seed=1):
        assert np.allclose(host.act(obs), policy.act(obs), atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_convolutions_are_exported_and_scale_only_where_they_must(shared: bool, tmp_path: Path) -> None:
    actor = square_image_actor()
    policy = convert(actor, image_walk(100), neuron="if", timesteps=4) if shared else if_policy(actor)
    host = exported(policy, tmp_path)
    kinds = [type(node).__name__ for node in host.nodes]
    assert kinds.count("Conv2d") == 2
    assert kinds.count("Flatten") == 1
    assert kinds.count("Scale") == (0 if shared else 1)
    for image in image_walk(20, seed=2):
        assert np.allclose(host.act(image), policy.act(image), atol=1e-5)


def test_pictures_into_a_linear_layer_and_no_hidden_layer(tmp_path: Path) -> None:
    for actor in (dyadic_actor(shape=(2, 2)), dyadic_actor(widths=())):
        policy = if_policy(actor)
        host = exported(policy, tmp_path)
        for obs in dyadic_observations(10, actor.observation_shape):
            assert np.array_equal(host.act(obs), policy.act(obs))


def test_weights_carry_the_sizes_of_spikes_and_dead_neurons_are_silent(tmp_path: Path) -> None:
    policy = if_policy(dyadic_actor())
    thresholds = policy.network.neurons.thresholds  # pyright: ignore[reportAttributeAccessIssue]
    policy.export_nir(tmp_path / "policy.nir", verify=False)
    nodes = nir.read(tmp_path / "policy.nir").nodes
    assert list(policy.export_nir(tmp_path / "again.nir", verify=False).nodes) == [
        "input", "layer1", "neurons1", "layer2", "neurons2", "layer3", "output"
    ]  # fmt: skip
    layers = policy.actor.layers
    assert np.array_equal(nodes["layer1"].weight, layers[0].weight)
    assert np.array_equal(nodes["layer2"].weight, layers[1].weight * thresholds[0])
    assert np.array_equal(nodes["layer3"].bias, layers[2].bias)
    for node, theta in ((nodes["neurons1"], thresholds[0]), (nodes["neurons2"], thresholds[1])):
        assert theta[0] == 0
        assert (node.r[0], node.v_threshold[0]) == (0, 1)
        assert np.array_equal(node.v_threshold[1:], theta[1:])
        assert np.array_equal(node.r[1:], np.ones(len(theta) - 1))
    assert not nodes["layer2"].weight[:, 0].any()


def test_layers_without_bias_are_linear_nodes(tmp_path: Path) -> None:
    actor = dyadic_actor()
    layers = tuple(Linear(layer.weight, 0 * layer.unit_bias, layer.activation) for layer in actor.layers)
    host = exported(if_policy(Actor(layers, actor.head, (4,))), tmp_path)
    assert [type(node).__name__ for node in host.nodes].count("Linear") == 3


@pytest.mark.parametrize("activation", [RELU, Activation("qcfs", 1.0, 4)], ids=lambda activation: activation.name)
def test_a_thousand_decisions_are_compared_at_export(activation: Activation, tmp_path: Path) -> None:
    actor = random_actor(activation=activation, widths=(12, 9), normalised=True)
    made = convert(actor, walk(200), neuron="if").export_nir(tmp_path / "policy.nir", observations=walk(300))
    assert made.verification is not None
    assert (made.verification.decisions, made.verification.passed) == (1000, True)
    assert made.verification.action_difference < 1e-5


@pytest.mark.parametrize("key", ["alpha", "alpha_clip", "timesteps", "head_scale", "normaliser_mean"])
def test_metadata_that_says_something_else_is_found(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = convert(random_actor(widths=(12, 9), normalised=True), walk(200), neuron="if", timesteps=4, alpha=0.5)
    told = nir_graph._metadata
    monkeypatch.setattr(nir_graph, "_metadata", lambda bundle: {**told(bundle), key: _changed(told(bundle)[key])})
    (tmp_path / "policy.nir").write_bytes(b"an older one")
    with pytest.raises(ValueError, match="does not act as the policy, nothing is written"):
        policy.export_nir(tmp_path / "policy.nir", observations=walk(100))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]


def _changed(value: Any) -> Any:
    return value - 1 if isinstance(value, int) else value * 0.7


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("sigma-delta", "sigma-delta neurons: NIR has no node"), ("if-differential", "differential coding: NIR's IF node"),
     ("snm-rate", "SNM neurons: NIR has no node"), ("snm-differential", "SNM neurons: NIR has no node"),
     ("mt-rate", "MT neurons: NIR has no node"), ("mt-differential", "MT neurons: NIR has no node")],
)  # fmt: skip
def test_what_nir_has_no_node_for_is_refused_by_name(kind: str, reason: str, tmp_path: Path) -> None:
    assert kind in KINDS
    with pytest.raises(ValueError, match=reason) as refusal:
        policies()[kind].export_nir(tmp_path / "policy.nir")
    assert "convert with neuron='if', coding='rate'" in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "calibration", [SpikeCalibration(), SpikeCalibration(adaptive=(0, 2))], ids=["fixed", "adaptive"]
)
def test_spike_calibration_is_refused(calibration: SpikeCalibration, tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(8,)), walk(100), neuron="if", calibration=calibration)
    with pytest.raises(ValueError, match="spike calibration: NIR has no node that simulates"):
        policy.export_nir(tmp_path / "policy.nir")


def test_a_kernel_that_nir_cannot_infer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer 1, a convolution with a kernel of \(3, 2\): .* square kernels only"):
        if_policy(dyadic_image_actor()).export_nir(tmp_path / "policy.nir")
    with pytest.raises(ValueError, match="a directory; expected a file"):
        policies()["if-rate"].export_nir(tmp_path)


def test_the_command_writes_it_or_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies()["if-rate"].save(tmp_path / "if")
    policies()["sigma-delta"].save(tmp_path / "sd")
    assert main(["export", str(tmp_path / "if"), "--nir", "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == ["policy.nir"]
    assert document["nodes"][0] == "input"
    assert document["verification"][0]["passed"]
    assert main(["export", str(tmp_path / "sd"), "--nir"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "sigma-delta neurons: NIR has no node" in said


def test_without_nir_one_line_names_the_extra(tmp_path: Path) -> None:
    policies()["if-rate"].save(tmp_path)
    program = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "nir":
            raise ModuleNotFoundError("blocked for this test", name=name)
sys.meta_path.insert(0, Blocked())
from snn_policy.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, "export", str(tmp_path), "--nir"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("needs nir: pip install 'snn-policy[nir]'")
