"""The ANN that decisions are timed against is the actor, and nothing in its graph slows it down."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from snn_policy import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.exported import names, path
from snn_policy.exporting.ann import actor_onnx
from snn_policy.sources import load_actor
from tests.actors import (
    ALL_ACTIVATIONS,
    HEAD_KINDS,
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    random_actor,
    walk,
)
from tests.baselines import no_ops, session, torch_graph

PER_HIDDEN_LAYER = {
    "relu": ["Gemm", "Relu"],
    "tanh": ["Gemm", "Tanh"],
    "elu": ["Gemm", "Elu"],
    "leaky_relu": ["Gemm", "LeakyRelu"],
    "silu": ["Gemm", "Sigmoid", "Mul"],
    "qcfs": ["Gemm", "Floor", "Clip"],
    "clip": ["Gemm", "Clip"],
    "log_softplus": ["Gemm", "Softplus", "Add", "Log"],
    "softplus": ["Gemm", "Softplus"],
    "hardswish": ["Gemm", "HardSigmoid", "Mul"],
    "softsign": ["Gemm", "Softsign"],
    "mish": ["Gemm", "Softplus", "Tanh", "Mul"],
    "gelu": ["Gemm", "Mul", "Mul", "Erf", "Add", "Mul"],
    "gelu_tanh": ["Gemm", "Mul", "Mul", "Add", "Mul", "Tanh", "Mul", "Add", "Mul"],
}


def usual(activation: Activation = ALL_ACTIVATIONS[0], **options: Any) -> Actor:
    """17 → 256 → 256 → 6, the actions in [−1, 1]."""
    actor = random_actor(activation=activation, shape=(17,), widths=(256, 256), outputs=6, **options)
    one = np.ones(6, np.float32)
    if not actor.discrete:
        actor.head = Head.clip(-one, one) if options.get("kind") == "clip" else Head.bounded(-one, one)
    return actor


def operators(actor: Actor) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(actor_onnx(actor)).graph.node]


def decided(graph: bytes, observations: Any) -> Any:
    (action,) = session(graph).run(None, {"obs": observations.astype(np.float32)})
    return np.asarray(action)


def every_kind() -> dict[str, Actor]:
    actors = {f"{kind} {f.name}": random_actor(activation=f, kind=kind) for f in ALL_ACTIVATIONS for kind in HEAD_KINDS}
    for f in ALL_ACTIVATIONS:
        actors[f"normalised {f.name}"] = random_actor(activation=f, normalised=True)
        actors[f"images {f.name}"] = dyadic_image_actor(activation=f)
    infinite = np.full(3, np.inf, np.float32)
    actors["unbounded"] = random_actor(kind="clip")
    actors["unbounded"].head = Head.clip(-infinite, infinite)
    actors["bounded below"] = random_actor(kind="clip")
    actors["bounded below"].head = Head.clip(np.zeros(3), infinite)
    actors["one layer"] = random_actor(widths=())
    actors["no clip"] = random_actor()
    actors["no clip"].normaliser = Normaliser(np.ones(11), np.linspace(0.5, 2, 11))  # pyright: ignore
    actors["trivial statistics"] = random_actor()
    actors["trivial statistics"].normaliser = Normaliser(np.zeros(11), np.ones(11))  # pyright: ignore
    silent = random_actor()
    quiet = (Linear(layer.weight, 0 * layer.bias, layer.activation) for layer in silent.layers)  # pyright: ignore
    actors["no bias"] = Actor(tuple(quiet), silent.head, (11,))
    for name, slope in (("leaky_relu", 0.0), ("leaky_relu", 1.0), ("leaky_relu", -0.5), ("elu", 0.0), ("elu", 1.0)):
        actors[f"{name} {slope}"] = random_actor(activation=Activation(name, slope))  # pyright: ignore[reportArgumentType]
    return actors


EVERY_KIND = every_kind()


@pytest.mark.parametrize("kind", ["tanh", "clip"])
def test_a_usual_actor_takes_at_most_seven_nodes(kind: str) -> None:
    assert operators(usual(kind=kind)) == ["Gemm", "Relu"] * 2 + ["Gemm"] + ["Tanh"] * (kind == "tanh") + ["Clip"]


@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda f: f.name)
def test_activations_are_written_with_their_operators(activation: Activation) -> None:
    hidden = PER_HIDDEN_LAYER[activation.name]
    assert operators(usual(activation)) == [*hidden, *hidden, "Gemm", "Tanh", "Clip"]
    assert operators(usual(activation, kind="argmax")) == [*hidden, *hidden, "Gemm", "ArgMax"]


@pytest.mark.parametrize("name", EVERY_KIND)
def test_no_node_is_a_no_op(name: str) -> None:
    assert no_ops(onnx.load_from_string(actor_onnx(EVERY_KIND[name]))) == []


@pytest.mark.parametrize("name", EVERY_KIND)
def test_the_graph_is_the_actor(name: str) -> None:
    actor = EVERY_KIND[name]
    observations = image_walk(30) if name.startswith("images") else 2 * walk(200)
    assert np.allclose(decided(actor_onnx(actor), observations), actor.act(observations), atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_shipped_actors_have_a_baseline(name: str) -> None:
    actor = load_actor(path(name))
    observations = np.random.default_rng(0).uniform(-2, 2, (20, *actor.observation_shape)).astype(np.float32)
    graph = actor_onnx(actor)
    assert no_ops(onnx.load_from_string(graph)) == []
    assert np.allclose(decided(graph, observations), actor.act(observations), atol=2e-5)


def test_exact_numbers_stay_exact() -> None:
    for f in (ALL_ACTIVATIONS[0], Activation("leaky_relu", 0.25), Activation("qcfs", 0.25, 4)):
        actor = dyadic_actor(activation=f, widths=(8,))
        assert np.array_equal(decided(actor_onnx(actor), dyadic_observations(50)), actor.act(dyadic_observations(50)))


def test_convolutions_stay_images_until_the_first_linear_layer() -> None:
    assert operators(dyadic_image_actor(normalised=False)) == [
        "Conv", "Relu", "Conv", "Relu", "Reshape", "Gemm", "Relu", "Gemm", "Max", "Min"
    ]  # fmt: skip


def test_weights_that_would_leave_float32_are_not_folded() -> None:
    actor = random_actor()
    actor.normaliser = Normaliser(np.zeros(11), np.full(11, 1e-39))  # pyright: ignore
    assert operators(actor)[0] == "Div"


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [*((name, False) for name in ("relu", "silu", "leaky_relu", "elu", "qcfs", "normalised", "discrete", "images")),
     *((name, True) for name in ("relu", "silu", "images"))],
)  # fmt: skip
def test_torchs_export_of_the_same_network_has_no_fewer_nodes(name: str, dynamo: bool) -> None:
    pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    by_name = {f.name: f for f in ALL_ACTIVATIONS}
    if name == "images":
        actor, observations = dyadic_image_actor(kind="tanh"), image_walk(10)
    else:
        kind = "argmax" if name == "discrete" else "tanh"
        actor = usual(by_name.get(name, by_name["relu"]), kind=kind, normalised=name == "normalised")
        observations = walk(50, (17,))
    theirs = torch_graph(actor, dynamo)
    assert np.allclose(decided(theirs, observations), actor.act(observations), atol=1e-5)
    counted = [node for node in onnx.load_from_string(theirs).graph.node if node.op_type != "Constant"]
    assert len(operators(actor)) <= len(counted)


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [
        ("Clip", (-np.inf, np.inf), {}), ("Mul", (1.0,), {}), ("Add", (0.0,), {}), ("Max", (-np.inf,), {}),
        ("Min", (np.inf,), {}), ("Div", (1.0,), {}), ("Sub", (0.0,), {}), ("Identity", (), {}),
        ("Cast", (), {"to": 1}), ("Reshape", (np.array([-1, 3]),), {}), ("Transpose", (), {"perm": [0, 1]}),
        ("LeakyRelu", (), {"alpha": 1.0}),
    ],
)  # fmt: skip
def test_a_no_op_would_be_found(operator: str, constants: Any, attributes: Any) -> None:
    model = onnx.load_from_string(actor_onnx(random_actor()))
    model.graph.node[-1].output[0] = "before"
    arrays = [np.asarray(constant, np.int64 if operator == "Reshape" else np.float32) for constant in constants]
    model.graph.initializer.extend(numpy_helper.from_array(tensor, f"more{i}") for i, tensor in enumerate(arrays))
    inputs = ["before", *(f"more{i}" for i in range(len(arrays)))]
    model.graph.node.append(helper.make_node(operator, inputs, ["action"], **attributes))
    assert no_ops(model) == [f"{operator} → action"]
