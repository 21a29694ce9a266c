"""Round a student's weights to what its error can tell: 8 significant bits, which float16 holds and xz halves.

w → q · round(w / q), q = max(2^(e−8), 2^−24) where 2^(e−1) ≤ |w| < 2^e: the error is at most 2^−8 of a weight.
docs/compression.md has what that does to actions and to files.
"""

from dataclasses import replace

import numpy as np

from snn_policy.actor import Actor
from snn_policy.protocol import FloatArray

SIGNIFICANT_BITS = 8
SMALLEST = 2.0**-24
"""Float16's smallest step: finer ones would have to be stored as float32."""


def rounded(weight: FloatArray, bits: int = SIGNIFICANT_BITS) -> FloatArray:
    """Return float32 weights of the same shape, rounded to the nearest, ties to even; zeros are +0."""
    _, exponent = np.frexp(weight)
    step = np.maximum(np.ldexp(1.0, exponent - bits), SMALLEST)
    return (np.round(weight / step) * step + 0.0).astype(np.float32)


def rounded_actor(actor: Actor, bits: int = SIGNIFICANT_BITS) -> Actor:
    """Return an actor that is a chain of layers with the weights of all of them rounded; biases stay."""
    return replace(actor, graph=tuple(replace(layer, weight=rounded(layer.weight, bits)) for layer in actor.layers))
