"""Small actors for the core's tests.

*Dyadic* ones have weights, thresholds and observations in 64ths, so that every sum is exact in float32 whatever
its order: two programs must then agree to the bit. Random ones have real weights of the usual size.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings as hypothesis_settings

from snn_policy.actor import Actor
from snn_policy.ann.activations import ACTIVATION_NAMES, RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, HeadKind, Layer, Linear, Normaliser
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.settings import IF, MT, SNM, settings_of

hypothesis_settings.register_profile("steady", deadline=None, max_examples=60)  # first calls compile
hypothesis_settings.load_profile("steady")

Array = npt.NDArray[Any]
HEAD_KINDS: tuple[HeadKind, ...] = ("tanh", "clip", "argmax")
ALL_ACTIVATIONS = tuple(
    Activation(name, 0.25, levels=4 if name == "qcfs" else 0)  # pyright: ignore[reportArgumentType]
    for name in ACTIVATION_NAMES
)
HEADS_AND_ACTIVATIONS = (
    *((RELU, kind) for kind in HEAD_KINDS),
    *((f, HEAD_KINDS[i % len(HEAD_KINDS)]) for i, f in enumerate(ALL_ACTIVATIONS) if f != RELU),
)
"""Every head, and every activation: a head takes y, and knows nothing of what made it."""
MODELS, CODINGS = ("if", "snm", "mt"), ("rate", "differential")


def make_head(kind: HeadKind, outputs: int) -> Head:
    if kind == "argmax":
        return Head.argmax(outputs)
    reach = np.arange(1, outputs + 1, dtype=np.float32) / 2
    return Head.clip(-reach, reach) if kind == "clip" else Head.bounded(-reach, 2 * reach, pre_clip=2.0)


def _actor(draw: Any, activation: Activation, kind: HeadKind, shape: tuple[int, ...], widths: tuple[int, ...],
           outputs: int, normaliser: Normaliser | None) -> Actor:  # fmt: skip
    sizes = (int(np.prod(shape)), *widths, outputs)
    layers = tuple(
        Linear(*draw(fan_out, fan_in), activation=None if index == len(widths) else activation)
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes))
    )
    return Actor(layers, make_head(kind, outputs), shape, normaliser)


def dyadic_actor(
    seed: int = 0,
    activation: Activation = RELU,
    kind: HeadKind = "clip",
    shape: tuple[int, ...] = (4,),
    widths: tuple[int, ...] = (8, 6),
    outputs: int = 2,
) -> Actor:
    rng = np.random.default_rng(seed)

    def draw(fan_out: int, fan_in: int) -> tuple[Array, Array]:
        return rng.integers(-40, 41, (fan_out, fan_in)) / 64, rng.integers(-16, 17, fan_out) / 64

    return _actor(draw, activation, kind, shape, widths, outputs, None)


IMAGE = (3, 9, 8)


def dyadic_image_actor(
    seed: int = 0, activation: Activation = RELU, kind: HeadKind = "clip", normalised: bool = True
) -> Actor:
    """Two convolutions (both padded and strided), a hidden and a last linear layer, on images of bytes."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> Any:
        return (rng.integers(-20, 21, shape) / 64).astype(np.float32)

    layers: list[Layer] = []
    shape, size = IMAGE, 0
    for channels, kernel, stride, padding in ((5, (3, 2), (2, 1), (1, 0)), (4, (2, 3), (1, 2), (0, 2))):
        layer = Conv2d(drawn(channels, shape[0], *kernel), drawn(channels), shape, stride, padding, activation)
        shape, size = layer.output_shape, layer.outputs
        layers.append(layer)
    for outputs, function in ((6, activation), (2, None)):
        layers.append(Linear(drawn(outputs, size), drawn(outputs), function))
        size = outputs
    half = np.full((1, 1, 1), 128, np.float32)
    return Actor(tuple(layers), make_head(kind, 2), IMAGE, Normaliser(half, half) if normalised else None)


def pruned(actor: Actor, density: float = 0.3, block: int = 1, seed: int = 0) -> Actor:
    """The actor with about so many of its weights kept, in blocks of consecutive outputs per source; the first row and
    the last column of every hidden layer's weights are zero altogether."""
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for layer in actor.layers:
        outputs, *others = layer.weight.shape
        kept = rng.random((-(-outputs // block), *others)) < density
        weight = layer.weight * np.repeat(kept, block, axis=0)[:outputs]
        if layer.activation is not None:
            weight[0], weight[:, -1] = 0, 0
        layers.append(replace(layer, weight=weight))
    return replace(actor, graph=tuple(layers))


def image_walk(rows: int, seed: int = 0) -> Array:
    """(rows, *IMAGE) uint8: a still background on which a bright square moves."""
    rng = np.random.default_rng(seed)
    images = np.tile(rng.integers(60, 120, IMAGE, dtype=np.uint8), (rows, 1, 1, 1))
    for row, (down, right) in enumerate(rng.integers(-1, 2, (rows, 2)).cumsum(axis=0)):
        images[row, :, down % 7 : down % 7 + 2, right % 6 : right % 6 + 2] = 250
    return images


def random_actor(
    seed: int = 0,
    activation: Activation = RELU,
    kind: HeadKind = "tanh",
    shape: tuple[int, ...] = (11,),
    widths: tuple[int, ...] = (48, 40),
    outputs: int = 3,
    normalised: bool = False,
) -> Actor:
    rng = np.random.default_rng(seed)

    def draw(fan_out: int, fan_in: int) -> tuple[Array, Array]:
        return rng.normal(size=(fan_out, fan_in)) * np.sqrt(1.6 / fan_in), rng.normal(size=fan_out) * 0.1

    normaliser = None
    if normalised:
        normaliser = Normaliser(rng.normal(size=shape) * 0.3, rng.uniform(0.5, 2, shape), clip=2.5)  # pyright: ignore
    return _actor(draw, activation, kind, shape, widths, outputs, normaliser)


def dyadic_observations(rows: int, shape: tuple[int, ...] = (4,), seed: int = 0) -> Array:
    """(rows, *shape) in 64ths, a slow random walk."""
    steps = np.random.default_rng(seed).integers(-12, 13, (rows, *shape)).cumsum(axis=0)
    return ((steps + 64) % 256 - 128).astype(np.float32) / 64


def walk(rows: int, shape: tuple[int, ...] = (11,), seed: int = 0, correlation: float = 0.95) -> Array:
    """(rows, *shape) float32: a first-order autoregressive walk of unit variance, like a robot's observations."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(rows, *shape))
    values = np.empty_like(noise)
    values[0] = noise[0]
    for row in range(1, rows):
        values[row] = correlation * values[row - 1] + np.sqrt(1 - correlation**2) * noise[row]
    return values.astype(np.float32)


def membrane_neurons(actor: Actor, seed: int = 0, dead: bool = True, **settings: Any) -> MembraneNeurons:
    """IF, SNM or MT neurons with dyadic thresholds, the first neuron of each layer dead."""
    rng = np.random.default_rng(seed)
    thresholds: list[Any] = [rng.integers(2, 17, layer.outputs).astype(np.float32) / 8 for layer in actor.hidden]
    for threshold in thresholds:
        threshold[0] *= 0 if dead else 1
    return MembraneNeurons(membrane_settings(len(thresholds), **settings), tuple(thresholds))


def membrane_settings(layers: int, model: str = "if", **settings: Any) -> IF | SNM | MT:
    """Settled settings; T = 8, α = 0.5 and c = 0.5 unless given."""
    given = {"timesteps": 8, "alpha": 0.5, "alpha_clip": 0.5, **settings}
    return settings_of(model, **given).settled(layers)  # pyright: ignore[reportReturnType]


def sigma_delta_neurons(actor: Actor, seed: int = 0, base: float = 2.0, alpha: float = 0.0) -> SigmaDeltaNeurons:
    """Sigma-delta neurons with dyadic quanta and offset, mixed predictors, the last neuron of each stage dead.

    At α = 1 residuals stay dyadic for a whole trace.
    """
    rng = np.random.default_rng(seed)
    quanta = [2.0 ** rng.integers(-6, -2, width).astype(np.float32) for width in actor.widths]
    for values in quanta:
        values[-1] = 0
    predictor = tuple(rng.integers(0, 2, width).astype(np.float32) for width in actor.widths)
    offset = (rng.integers(-16, 17, actor.widths[0]) / 64).astype(np.float32)
    digits = (6, *[4] * (len(quanta) - 2), 6)[: len(quanta)]
    return SigmaDeltaNeurons(tuple(quanta), predictor, offset, digits, base, (alpha,) * len(quanta))


def every_policy(actor: Actor, engine: str = "numpy", **settings: Any) -> list[SpikingPolicy]:
    """A sigma-delta policy, one that carries residuals and, for ReLU actors, one of each membrane model and coding."""
    networks: list[Any] = [sigma_delta_neurons(actor), sigma_delta_neurons(actor, alpha=1.0)]
    if all(layer.activation == RELU for layer in actor.hidden):
        steps = {"rate": 8, "differential": 2}  # o/t is dyadic up to T = 2
        networks += [membrane_neurons(actor, model=m, coding=c, **{"timesteps": steps[c], **settings})
                     for m in MODELS for c in CODINGS]  # fmt: skip
    return [SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine) for neurons in networks]


def label(policy: SpikingPolicy) -> str:
    neurons = policy.network.neurons
    if isinstance(neurons, MembraneNeurons):
        return f"{neurons.model}-{neurons.coding}"
    return "sigma-delta-carrying" if neurons.carries else "sigma-delta"


def policies(engine: str = "numpy", seed: int = 0) -> dict[str, SpikingPolicy]:
    """One dyadic policy for every neuron and coding, by name."""
    return {label(policy): policy for policy in every_policy(dyadic_actor(seed), engine)}


KINDS = tuple(policies())


def reference_actor(reference_dir: Path, name: str) -> Actor:
    from snn_policy.sources import load_actor

    return load_actor(reference_dir / name)


def same_state(first: Any, second: Any) -> bool:
    return type(first) is type(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
