"""Resize an actor, in width or depth, so that sizes can be compared on a trained network's own sparsity."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.layers import Layer, Linear

NOISE = 0.05


def with_width(actor: Actor, width: int, seed: int = 0) -> Actor:
    """Return an actor with `width` units in every hidden layer, of about the same function.

    Wider (Net2WiderNet, Chen et al. 2016): units are repeated in turn, a unit's outgoing weights shared equally among
    its copies; then every incoming weight of a copy is off by a normal 5 %, so that copies do not spike as one. The
    function stays to within the average of that noise, and so does the share of silent units. Narrower: units are
    drawn at random and their outgoing weights raised by old/new width, which keeps the next layer's inputs only on
    average; good for timing, not for acting.

    Raises:
        ValueError: a layer that is not linear.
    """
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    chosen, share = np.arange(actor.layers[0].inputs), np.ones(actor.layers[0].inputs)
    for layer in actor.layers:
        weight, bias = _linear(layer).weight[:, chosen] * share, layer.bias
        if layer.activation is not None:
            chosen, share = _units(layer.outputs, width, rng)
            weight, bias = weight[chosen], bias[chosen]
            copied = np.bincount(chosen)[chosen] > 1
            weight[copied] *= 1 + NOISE * rng.standard_normal(weight[copied].shape)
        layers.append(Linear(weight.astype(np.float32), bias, layer.activation))
    return replace(actor, graph=tuple(layers), name=f"{actor.name}, width {width}")


def with_depth(actor: Actor, depth: int) -> Actor:
    """Return an actor with `depth` hidden layers: identities after its last one, which for ReLU change nothing.

    They are dense layers like any other to whatever runs them: nothing here looks for zero weights.

    Raises:
        ValueError: the actor is deeper already.
    """
    last = _linear(actor.layers[-2])
    if depth < len(actor.hidden):
        raise ValueError(f"depth {depth}: the actor has {len(actor.hidden)} hidden layers already")
    width = last.outputs
    identity = Linear(np.eye(width, dtype=np.float32), np.zeros(width, np.float32), last.activation)
    more = (identity,) * (depth - len(actor.hidden))
    return replace(actor, graph=(*actor.hidden, *more, actor.layers[-1]), name=f"{actor.name}, depth {depth}")


def _units(own: int, width: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return which units the new ones are, and by what their outgoing weights are multiplied, both (width,)."""
    if width < own:
        return np.sort(rng.choice(own, width, replace=False)), np.full(width, own / width)
    chosen = np.arange(width) % own
    return chosen, 1 / np.bincount(chosen)[chosen]


def _linear(layer: Layer) -> Linear:
    if not isinstance(layer, Linear):
        raise ValueError(f"{type(layer).__name__}: only linear layers can be resized")
    return layer
