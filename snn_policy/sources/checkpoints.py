"""Checkpoints: dictionaries of weights, whose networks are found by names and shapes alone (`weight_names`).

rsl_rl's, rl_games', skrl's, Sample Factory's, safe-control-gym's, CleanRL's and plain state dictionaries are read, from
`.pt` and `.pth` files, as objects, and from safetensors. None stores its activation functions: the user says them.
Observation statistics are read by `checkpoint_statistics`.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, warn
from snn_policy.sources.assemble import assemble
from snn_policy.sources.checkpoint_statistics import own_statistics
from snn_policy.sources.head_width import refuse_doubled_head
from snn_policy.sources.left_over import refuse_left_over, warn_of_bare_values
from snn_policy.sources.network_choice import chosen_network
from snn_policy.sources.operations import Operation, Select, activate, affine, scale
from snn_policy.sources.torch_archive import TorchArchive
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised
from snn_policy.sources.weight_names import (
    Network,
    Weights,
    flattened,
    weight_name,
)
from snn_policy.sources.weight_values import shape_of, values_of
from snn_policy.untrusted_files import LARGEST_WEIGHTS, checked, reading

ACTIVATIONS: dict[str, tuple[str, float]] = {
    "relu": ("relu", 0.0), "tanh": ("tanh", 0.0), "elu": ("elu", 1.0), "silu": ("silu", 0.0), "swish": ("silu", 0.0),
    "leaky_relu": ("leaky_relu", 0.01), "lrelu": ("leaky_relu", 0.01), "sigmoid": ("sigmoid", 0.0),
    "selu": ("selu", 0.0), "celu": ("celu", 1.0), "mish": ("mish", 0.0), "softsign": ("softsign", 0.0),
    "softplus": ("softplus", 0.0), "gelu": ("gelu", 0.0), "gelu_tanh": ("gelu_tanh", 0.0),
    "relu6": ("relu6", 0.0), "hardtanh": ("hardtanh", 0.0),
    "hardswish": ("hardswish", 0.0), "hardsigmoid": ("hardsigmoid", 0.0), "logsigmoid": ("logsigmoid", 0.0),
}  # fmt: skip
"""By the names of training configurations."""


_SQUASHED = (
    (re.compile(r"(^|\.)preprocess\.model\.model\."), "Tianshou's actors end in max_action·tanh, if not unbounded"),
    (re.compile(r"(^|\.)_encoder\._(fcs|layers)\."), "d3rlpy's policies end in a tanh"),
)
"""Where the names of layers say what follows the last."""


def read_checkpoint(
    source: Any,
    *,
    activation: str | Sequence[str] | None = None,
    prefix: str | None = None,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    name: str | None = None,
    normaliser: Sequence[ObservationStatistics] | None = None,
) -> Actor:
    """Read a file of `torch.save`, a safetensors file, or a dictionary of arrays; `load_actor` describes the arguments.

    Args:
        activation: of the hidden layers; or, of those and of the output, two names ("relu,tanh").
        normaliser: stands in for the statistics that the checkpoint holds; none, if empty.

    Raises:
        SourceError: damaged, or it holds several networks, or no `activation` is given; it names what can be said.
        UnsupportedLayerError: layers that are no chain of linear ones.
    """
    made_of = partial(_actor, activation=activation, prefix=prefix, shape=observation_shape, normaliser=normaliser,
                      facts={"low": low, "high": high, "env_id": env_id})  # fmt: skip
    if not isinstance(source, Path):
        return made_of(source, name=name or "checkpoint")
    with reading(source, "checkpoint"):
        if source.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file

            return made_of(load_file(checked(source, LARGEST_WEIGHTS)), name=name or source.stem)
        with TorchArchive(source) as archive:
            return made_of(archive.pickled("data.pkl"), name=name or source.stem)


def _actor(
    root: Any, *, name: str, activation: Any, prefix: str | None, shape: Sequence[int] | None,
    normaliser: Sequence[ObservationStatistics] | None, facts: dict[str, Any],
) -> Actor:  # fmt: skip
    weights = flattened(root)
    network = chosen_network(weights, prefix)
    hidden, last = _activations(activation, network, weights)
    used = set[str]()
    own = own_statistics(root, weights, network, used) if normaliser is None else []
    size, before = normalised(normaliser or (), shape)
    bounds = {name: facts[name] for name in ("low", "high") if facts[name] is not None}
    if _halved(weights, network) is None:
        refuse_doubled_head(root, weights, network, bounds, used)
    operations = [*before, *own, *_layers(weights, network, hidden, used), *_output(weights, network, last, used)]
    given = {"normalised": normaliser is not None, "bounded": bool(bounds)}
    refuse_left_over(root, weights, used, network, prefix, **given)
    warn_of_bare_values(root, **given)
    return assemble(operations, name=name, observation_shape=size, **facts)


def _activations(given: Any, network: Network, weights: Weights) -> tuple[str, str | None]:
    names = given.split(",") if isinstance(given, str) else list(given or ())
    names = [str(name).strip().lower() for name in names]
    choices = ", ".join(ACTIVATIONS)
    if not names:
        keys = ", ".join(weight_name(weights, layer) for layer in network.layers[:3])
        where = "the training configuration names it: policy.activation in rsl_rl, mlp.activation in rl_games"
        raise SourceError(
            f"a checkpoint: weights without their network ({keys}, …: {network}), which stores no activation function; "
            f"pass activation= ({choices}; {where}), or "
            "build the network, call its load_state_dict, and pass the module"
        )
    unknown = [name for name in names if name not in ACTIVATIONS and name not in ("identity", "linear", "none")]
    if unknown or len(names) > 2:
        raise SourceError(
            f"activation {given!r}: expected one of {choices}, or two: of hidden layers and of the output"
        )
    last = names[1] if len(names) == 2 and names[1] in ACTIVATIONS else None
    if names[0] not in ACTIVATIONS:
        raise SourceError(f"activation {names[0]!r}: hidden layers need one of {choices}")
    return names[0], last


def _layers(weights: Weights, network: Network, hidden: str, used: set[str]) -> list[Operation]:
    operations: list[Operation] = []
    for layer in network.layers:
        key = weight_name(weights, layer)
        matrix = values_of(weights, key)
        bias_key = key.rpartition(".")[0] + ".bias" if "." in key else "bias"
        bias = weights.get(bias_key)
        used |= {key, bias_key}
        if bias is not None and shape_of(bias) != (matrix.shape[0 if key.endswith("weight") else 1],):
            raise SourceError(f"{layer}: its bias of shape {shape_of(bias)} does not fit its weight {matrix.shape}")
        matrix = matrix.T if key.endswith("kernel") else matrix
        operations.append(affine(layer, "Linear", matrix, None if bias is None else values_of(weights, bias_key)))
        if layer != network.layers[-1]:
            operations += activate(f"{layer} activation", hidden, *ACTIVATIONS[hidden])
    return operations


def _output(weights: Weights, network: Network, last: str | None, used: set[str]) -> list[Operation]:
    """Return what follows the last layer: half of it where it holds spreads, too; a tanh by stored constants."""
    operations: list[Operation] = []
    end, half = network.layers[-1], network.sizes[-1] // 2
    meaning = _halved(weights, network)
    if meaning is not None:
        warn(f"{end}: of {network.sizes[-1]} outputs, the action is taken to be {meaning}")
        operations.append(Select(lambda _: np.arange(half), path=end, kind="means"))
        last = "tanh" if last is None and "brax" in meaning else last
    where = network.layers[0].rpartition(".")[0]
    folder = next((prefix for prefix in _folders(where) if f"{prefix}action_scale" in weights), None)
    if folder is not None and f"{folder}action_bias" in weights:
        names = [f"{folder}action_scale", f"{folder}action_bias"]
        used |= {*names}
        factor, offset = (values_of(weights, key, whole=True).reshape(-1) for key in names)
        return [*operations, *activate("tanh", "Tanh", "tanh"), scale("action_scale", "rescale", factor, offset)]
    told = next((what for names, what in _SQUASHED if names.search(network.layers[0])), None)
    if last is None and told is not None:
        warn(f"{end}: {told}, which the file does not hold; pass it as the second name of activation= (relu,tanh)")
    if last is not None:
        operations += activate("output activation", last, *ACTIVATIONS[last])
    return operations


def _halved(weights: Weights, network: Network) -> str | None:
    """Return what the first half of the outputs is, where the name of their layer says that the rest are spreads."""
    end = network.layers[-1]
    if network.sizes[-1] % 2:
        return None
    if weight_name(weights, end).endswith("kernel") and "hidden_" in end:
        return "tanh of its first half (brax's distribution)"
    gaussian = end.endswith("distribution_linear") and not any(key.endswith("learned_stddev") for key in weights)
    return "its first half, the means (Sample Factory's)" if gaussian else None


def _folders(path: str) -> list[str]:
    """Return the prefixes above a name, the nearest first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) + "." if count else "" for count in range(len(parts), -1, -1)]
