"""Why a layer is refused, and what to do instead: one table for all sources."""

from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.operations import entries

CROSSED = "its lower bound is above its upper bound; swap the two"
_REORDERED = "it changes the order of axes"
_CHANNEL_FIRST = "Give the policy channel-first images (C, H, W), and flatten them in that order"
ACTIVATIONS = "ReLU, tanh, sigmoid, ELU, SiLU or leaky ReLU"

_RANDOM = (
    "it is random: a sample joins the action, as in diffusion and in Gaussian policies that draw",
    "Let forward return the deterministic action (the mean)",
)

COMPLEX = ("complex numbers", "it computes with complex numbers, as state spaces (S4) do", "Use a GRU or an LSTM")
DEQUANTISE = "Dequantise the weights to float32, and save or pass those"
QUANTISED = ("quantised", "scales and zero points are applied by no rule", DEQUANTISE)
_RECURRENT = (
    "it is recurrent",
    "Hand over the module itself, or export it as TorchScript or ONNX with its state as an input and an output",
)

_CHOOSING = (
    "it chooses by the observation, as a mixture of experts does",
    "Use a feed-forward policy of linear layers",
)
_SCANNING = (
    "it accumulates along an axis, as the parallel scans of state spaces (Mamba, S4) do",
    "Use a GRU, an LSTM or an activation function",
)
_TOLERANCE = "a spiking network is wrong by a whole jump beside it, so no tolerance can be held"
_JUMPS = {
    "hardshrink": ("Hardshrink", f"Retrain with {ACTIVATIONS}, or with Softshrink"),
    "shrink": ("Shrink", f"Retrain with {ACTIVATIONS}, or with Softshrink: this is a Hardshrink"),
    "threshold": ("Threshold", "Retrain with ReLU, or with a threshold that is its own value"),
    "thresholdedrelu": ("Threshold", "Retrain with ReLU, or with a threshold that is its own value"),
    "sign": ("Sign", "Retrain with tanh"),
    "heaviside": ("Heaviside", "Retrain with a sigmoid"),
}
_ROUNDS = frozenset(("floor", "ceil", "round", "trunc", "fix", "frac", "mod", "fmod", "remainder", "floordiv",
                     "floordivide", "fakequantize", "int", "long", "short", "byte", "quantizelinear"))  # fmt: skip
"""Names of functions that round to whole numbers, or leave what that leaves over."""
_DRAWS = frozenset(("normal", "uniform", "exponential", "poisson", "empty", "emptylike", "newempty"))
"""Names of functions that draw, or leave what happens to lie in memory for others to draw into."""

# the first entry whose key occurs in the layer's type, lower case and without underscores, applies
_TABLE = {
    "rand": _RANDOM,
    "multinomial": _RANDOM,
    "bernoulli": _RANDOM,
    "conv": ("only two-dimensional convolutions are read", "Use Conv2d, or linear layers on the flattened observation"),
    "maxpool": ("a maximum has no spiking counterpart", "Retrain with average pooling or with a stride instead"),
    "pool": ("of pooling, only two-dimensional means are read", "Retrain with AvgPool2d or with a stride instead"),
    "pad": ("padding is read within convolutions only", "Give the convolution itself its zero padding"),
    "permute": (_REORDERED, _CHANNEL_FIRST),
    "transpose": (_REORDERED, _CHANNEL_FIRST),
    "movedim": (_REORDERED, _CHANNEL_FIRST),
    "layernorm": (
        "it depends on the whole layer's present values, so it cannot fold into weights",
        "Retrain without it (in a pixel policy, Linear + ReLU as the trunk), or with BatchNorm1d, which folds",
    ),
    "norm": (
        "it cannot fold into weights",
        "Retrain with BatchNorm1d or BatchNorm2d (with running statistics), which fold, or without normalisation",
    ),
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "rnn": _RECURRENT,
    "scan": _RECURRENT,
    "loop": _RECURRENT,
    "attention": ("products of two values have no spiking counterpart", "Use a feed-forward policy of linear layers"),
    "mixture": ("it chooses parts of the network by the observation", "Use a feed-forward policy of linear layers"),
    "topk": _CHOOSING,
    "onehot": _CHOOSING,
    "gather": _CHOOSING,
    "argmax": _CHOOSING,
    "indexselect": _CHOOSING,
    "cumsum": _SCANNING,
    "cumprod": _SCANNING,
    "logcumsumexp": _SCANNING,
    "associativescan": _SCANNING,
    "transformer": (
        "products of two values (attention) have no spiking counterpart",
        "Use a feed-forward policy of linear layers",
    ),
    "normal": _RANDOM,
    "dropout": ("it is random, and active in evaluation too", "Pass training=self.training, or remove it"),
    "where": ("it chooses between values by the observation", "Keep forward free of branches on values"),
    "concat": ("several values are joined", "Use a policy that is one chain of layers"),
    "cat": ("several values are joined", "Use a policy that is one chain of layers"),
    "softmax": ("a softmax only makes sense before an argmax", "Return the logits, or their argmax"),
}
_LAYERS = f"Use linear layers or Conv2d with {ACTIVATIONS}, or wrap the policy so that forward avoids it"
_ELSE = ("no rule reads it", _LAYERS)
_FUNCTIONS = ("gelu", "mish", "selu", "celu", "softplus", "softsign", "squareplus", "hardswish", "hardsigmoid", "relu6",
              "shrink")  # fmt: skip


def refusal(path: str, kind: str) -> UnsupportedLayerError:
    """Return the error for a layer that no rule reads."""
    plain = kind.lower().replace("_", "")
    if plain in _JUMPS or plain == "sgn":
        return jumping(path, kind)
    if plain in _ROUNDS:
        return rounding(path, kind)
    if any(name in plain for name in _FUNCTIONS):
        return UnsupportedLayerError(path, kind, "this activation is not supported", f"Retrain with {ACTIVATIONS}")
    if "layernorm" in plain:
        kind = "LayerNorm" if kind.islower() else kind
    if plain in _DRAWS:
        return UnsupportedLayerError(path, kind, *_RANDOM)
    reason, remedy = next((texts for key, texts in _TABLE.items() if key in plain), _ELSE)
    return UnsupportedLayerError(path, kind, reason, remedy)


def jumping(path: str, kind: str, height: float | None = None, place: float = 0.0) -> UnsupportedLayerError:
    """Return the error for a function that jumps, by `height` where its argument is `place`."""
    name, remedy = _JUMPS.get(kind.lower().replace("_", ""), (kind, f"Retrain with {ACTIVATIONS}"))
    where = "" if height is None else f" (by {height:.3g} at {place:.3g})"
    return UnsupportedLayerError(path, name, f"it jumps{where}: {_TOLERANCE}", remedy)


def rounding(path: str, kind: str) -> UnsupportedLayerError:
    """Return the error for a function that rounds to whole numbers."""
    reason = f"no rule reads it: it rounds, so it jumps from number to number: {_TOLERANCE}"
    return UnsupportedLayerError(path, kind, reason, "Leave the rounding out, or round the action outside the policy")


def joined(path: str, kind: str) -> UnsupportedLayerError:
    """Return the error where two values that both depend on the observation meet."""
    reason = "it joins two values that both depend on the observation (a residual connection, a product, a sample)"
    return UnsupportedLayerError(
        path, kind, reason, "Use a policy that is one chain of layers and returns its deterministic action"
    )


def divided_by_zero(path: str, kind: str, divisor: Any) -> UnsupportedLayerError:
    """Return the error for a standard deviation, or another constant divisor, that is zero."""
    reason = f"it divides by zero at {entries(np.asarray(divisor) == 0)} (the standard deviation of a constant sensor?)"
    return UnsupportedLayerError(path, kind, reason, "Put 1 there, or keep the sensor out of the observation")
