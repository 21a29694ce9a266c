"""Stable-Baselines3 and sb3-contrib: saved zips and live algorithms.

TD3, DDPG, SAC, TQC, CrossQ, PPO, MaskablePPO (without its masks), RecurrentPPO, A2C, TRPO, DQN, QR-DQN and ARS.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.protocol import KeyedShape
from snn_policy.sources.assemble import assemble
from snn_policy.sources.environment_ids import environment_of
from snn_policy.sources.environment_statistics import read_environment
from snn_policy.sources.images import convolve
from snn_policy.sources.observation_statistics import read_statistics
from snn_policy.sources.operations import ArgMax, Flatten, Operation, activate, affine, batch_norm, clip, scale, squash
from snn_policy.sources.refusals import ACTIVATIONS, refusal
from snn_policy.sources.sb3_agreement import check_agreement, drawn_for
from snn_policy.sources.sb3_archive import (
    Archive,
    check_extractor,
    checked_observations,
    family_of,
    features_refused,
    read_archive,
)
from snn_policy.sources.sb3_recurrent import check_recurrent, is_recurrent, recurrent_actor
from snn_policy.sources.sb3_spaces import ActionSpace, checked_actions, checked_part, several_choices
from snn_policy.sources.sb3_statistics import REMEDY, beside, one_down, stem, warn_of_missing, was_normalised
from snn_policy.sources.vecnormalize import ObservationStatistics
from snn_policy.untrusted_files import reading

_ACTIVATIONS = {
    "ReLU": ("relu", 0.0),
    "Tanh": ("tanh", 0.0),
    "ELU": ("elu", 1.0),
    "SiLU": ("silu", 0.0),
    "LeakyReLU": ("leaky_relu", 0.01),
    "Sigmoid": ("sigmoid", 0.0),
    "SELU": ("selu", 0.0),
    "CELU": ("celu", 1.0),
    "Mish": ("mish", 0.0),
    "Softsign": ("softsign", 0.0),
    "Softplus": ("softplus", 0.0),
    "GELU": ("gelu", 0.0),
    "Hardswish": ("hardswish", 0.0),
    "Hardsigmoid": ("hardsigmoid", 0.0),
    "LogSigmoid": ("logsigmoid", 0.0),
    "Hardtanh": ("hardtanh", 0.0),
    "ReLU6": ("relu6", 0.0),
}
_SQUASHED = ("td3", "sac", "crossq")
_NATURE_STRIDES = {"cnn.0": 4, "cnn.2": 2, "cnn.4": 1}
_DEFAULTS = {"actor-critic": "Tanh"}
"""Of the hidden layers; ReLU where nothing stands here."""


def read_zip(
    path: Path,
    *,
    vecnormalize: Any = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    name: str | None = None,
) -> Actor:
    """Read a saved algorithm; `load_actor` describes the arguments."""
    archive = read_archive(path)
    source = beside(path) if vecnormalize is None else vecnormalize
    statistics = _missing(path, archive) if source is None else _given(source, archive.observation_shape)
    with reading(path, "Stable-Baselines3 zip"):
        return _actor(archive, statistics, low, high, env_id, name or stem(path).name)


def _given(source: Any, shape: tuple[int, ...]) -> tuple[ObservationStatistics, ...]:
    return () if source is False else read_statistics(source, shape)


def _missing(path: Path, archive: Archive) -> tuple[ObservationStatistics, ...]:
    """Return statistics in an environment's folder, with a note, if they fit; else warn where there must be some."""
    place = None if archive.normalised == "no" else one_down(path)
    try:
        statistics = () if place is None else read_statistics(place, archive.observation_shape)
        fitting = tuple(statistic.fitted(archive.observation_shape) for statistic in statistics)
    except ValueError:  # another policy's
        fitting = ()
    if fitting:
        warn(f"{path}: takes the observation statistics of {place}. {REMEDY}")
    else:
        warn_of_missing(str(path), archive.normalised, path.parent)
    return fitting


def read_algorithm(
    algorithm: Any,
    *,
    vecnormalize: Any = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    name: str | None = None,
) -> Actor:
    """Read a live algorithm or its policy, and compare with its own `predict`; `load_actor` describes the arguments."""
    policy = getattr(algorithm, "policy", algorithm)
    title = name or type(algorithm).__name__.lower()
    archive = _live(policy)
    found = _live_statistics(algorithm, archive, title) if vecnormalize is None else None
    statistics = _given(vecnormalize, archive.observation_shape) if found is None else found
    known = env_id or environment_of(algorithm)
    actor = _actor(archive, statistics, low, high, known, title)
    bare = _actor(archive, (), *_own_bounds(archive), None, title)
    if bare.recurrent:
        check_recurrent(bare, policy, drawn_for(policy, bool(statistics)))
        return actor
    check_agreement(bare, algorithm, policy, normalised=bool(statistics))
    return actor


def _live_statistics(algorithm: Any, archive: Archive, name: str) -> tuple[ObservationStatistics, ...]:
    environment = algorithm.get_env() if hasattr(algorithm, "get_env") else None
    if environment is not None:
        return read_environment(environment, archive.observation_shape)
    space = getattr(algorithm, "observation_space", None)
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    last, original = (getattr(algorithm, key, None) for key in ("_last_obs", "_last_original_obs"))
    if isinstance(archive.observation_shape, KeyedShape):
        return ()
    warn_of_missing(name, was_normalised(last, original, low, high, off_policy=archive.family != "actor-critic"))
    return ()


def _own_bounds(archive: Archive) -> tuple[float, float] | tuple[None, None]:
    """Return ±1 where the policy has no bounds to scale its actions to; else None, for its own."""
    own = archive.actions
    squashed = archive.family in _SQUASHED or archive.squash
    if own.low is None or own.high is None or not squashed:
        return None, None
    return (None, None) if np.isfinite([own.low, own.high]).all() else (-1.0, 1.0)


def _live(policy: Any) -> Archive:
    family = family_of(type(policy).__module__)
    observations, actions = policy.observation_space, policy.action_space
    kinds = type(observations).__name__, type(actions).__name__
    for path, module in policy.named_modules():
        if path.endswith("features_extractor"):
            check_extractor(f"policy.{path}", f"{type(module).__module__}.{type(module).__qualname__}")
    if kinds[1] == "Discrete":
        space = ActionSpace(choices=int(actions.n))
    elif kinds[1] == "MultiDiscrete":
        space = ActionSpace(choices=several_choices(actions.nvec, actions.start))
    else:
        checked_actions(kinds[1], tuple(actions.shape or ()))
        space = ActionSpace(actions.low.astype(np.float64), actions.high.astype(np.float64))
    return Archive(
        family,
        {key: value.detach().cpu().numpy() for key, value in policy.state_dict().items()},
        f"<class '{policy.activation_fn.__module__}.{policy.activation_fn.__qualname__}'>",
        float(getattr(getattr(policy, "actor", None), "clip_mean", 2.0)),
        bool(policy.squash_output),
        _observation_shape(observations),
        policy.normalize_images and kinds[0] != "Dict" and _holds_bytes(observations),
        space,
        None,
        "maskable" in type(policy).__module__,
        next((float(part.eps) for part in policy.modules() if type(part).__name__.startswith("BatchRenorm")), 1e-3),
    )


def _observation_shape(space: Any) -> tuple[int, ...]:
    kind = type(space).__name__
    if kind == "Dict":
        parts = {key: (type(part).__name__, part.shape) for key, part in space.spaces.items()}
        return KeyedShape({key: checked_part(key, *part) for key, part in parts.items()})
    return checked_observations(kind, tuple(space.shape or ()))


def _holds_bytes(space: Any) -> bool:
    """Return whether a Box is of images of bytes 0 to 255."""
    image = space.dtype == np.uint8 and len(space.shape) == 3
    return bool(image and (space.low == 0).all() and (space.high == 255).all())


def _actor(
    archive: Archive,
    statistics: Sequence[ObservationStatistics],
    low: npt.ArrayLike | None,
    high: npt.ArrayLike | None,
    env_id: str | None,
    name: str,
) -> Actor:
    if archive.masked:
        warn(
            f"{name}: a MaskablePPO's masks are no part of the actor, which may choose actions that they rule out: "
            "it acts as predict does without action_masks",
        )
    fitted = [statistic.fitted(archive.observation_shape) for statistic in statistics]
    operations = [operation for statistic in fitted for operation in statistic.operations()]
    after = [*_layers(archive), *_head(archive, low, high)]
    if is_recurrent(archive.weights):
        before = [*operations, *_features(archive)]
        return recurrent_actor(archive.weights, before, after, archive.observation_shape, name, env_id)
    operations += [*_features(archive), *after]
    return assemble(operations, name=name, observation_shape=archive.observation_shape, env_id=env_id)


def _features(archive: Archive) -> list[Operation]:
    """Return the preprocessing of images, and NatureCNN where the weights have one; flat rows at the end."""
    divided = [scale("preprocess_obs", "normalize_images", 1 / 255)] if archive.divides else []
    own = {"dqn": "q_net.", "qrdqn": "quantile_net.", "actor-critic": "pi_", "ars": ""}.get(archive.family, "actor.")
    names = (f"{own}features_extractor", "features_extractor")  # files of old releases have the latter alone
    found = [name for name in names if any(key.startswith(f"{name}.") for key in archive.weights)]
    layers = _nature_cnn(archive, found[0]) if found else []
    return [*divided, *layers, Flatten(path="features_extractor", kind="Flatten")]


def _nature_cnn(archive: Archive, prefix: str) -> list[Operation]:
    held = {key.removeprefix(f"{prefix}."): value for key, value in archive.weights.items() if key.startswith(prefix)}
    if set(held) != {f"{layer}.{part}" for layer in (*_NATURE_STRIDES, "linear.0") for part in ("weight", "bias")}:
        raise features_refused(prefix, "features extractor")
    operations: list[Operation] = []
    for layer, stride in _NATURE_STRIDES.items():
        path = f"{prefix}.{layer}"
        operations.append(convolve(path, "Conv2d", held[f"{layer}.weight"], held[f"{layer}.bias"], stride, padding=0))
        operations += activate(f"{path} activation", "ReLU", "relu")
    operations.append(Flatten(path=f"{prefix}.cnn.6", kind="Flatten"))
    operations.append(affine(f"{prefix}.linear.0", "Linear", held["linear.0.weight"], held["linear.0.bias"]))
    return [*operations, *activate(f"{prefix}.linear.1", "ReLU", "relu")]


def _layers(archive: Archive) -> list[Operation]:
    """Return the deterministic path from features to the head's input, by the names of the weights."""
    match archive.family:
        case "td3":
            paths = _sequence(archive, "actor.mu")
        case "dqn":
            paths = _sequence(archive, "q_net.q_net")
        case "qrdqn":
            paths = _sequence(archive, "quantile_net.quantile_net")
        case "ars":
            paths = ["action_net"] if "action_net.weight" in archive.weights else _sequence(archive, "action_net")
        case "crossq":
            paths = [*_numbered(archive, "actor.latent_pi"), "actor.mu.0" if _clips_mean(archive) else "actor.mu"]
        case "sac":
            paths = [*_sequence(archive, "actor.latent_pi"), "actor.mu.0" if _clips_mean(archive) else "actor.mu"]
        case "actor-critic":
            hidden = (*_sequence(archive, "mlp_extractor.shared_net"), *_sequence(archive, "mlp_extractor.policy_net"))
            paths = [*hidden, "action_net"]
    activation = _activation(archive)
    operations: list[Operation] = []
    for path in paths:
        if f"{path}.ra_mean" in archive.weights:
            operations.append(_renormalised(archive, path))
            continue
        weights = [archive.weights.get(f"{path}.{part}") for part in ("weight", "bias")]
        if archive.family == "qrdqn" and path == paths[-1]:
            weights = [_mean_quantile(path, weight, archive.actions.choices) for weight in weights]
        if weights[0] is None or (weights[1] is None and archive.family != "ars"):
            raise SourceError(f"{path}: its weight or bias is missing; expected a linear layer there")
        operations.append(affine(path, "Linear", *weights))
        if path != paths[-1]:
            operations += activate(f"{path} activation", *activation)
    return operations


def _numbered(archive: Archive, prefix: str) -> list[str]:
    """Return the modules of a Sequential that hold arrays, in order."""
    matches = [re.match(rf"{re.escape(prefix)}\.(\d+)\.", key) for key in archive.weights]
    return [f"{prefix}.{number}" for number in sorted({int(match[1]) for match in matches if match})]


def _renormalised(archive: Archive, path: str) -> Operation:
    """Read CrossQ's BatchRenorm, which acts in evaluation by its running statistics alone."""
    mean, variance, factor, offset = (
        archive.weights.get(f"{path}.{key}") for key in ("ra_mean", "ra_var", "scale", "bias")
    )
    if variance is None or not (variance + archive.norm_epsilon > 0).all():
        raise SourceError(f"{path}: its running variance is missing or not positive")
    return batch_norm(path, "BatchRenorm", mean, variance, archive.norm_epsilon, factor, offset)


def _mean_quantile(path: str, array: Any, choices: Any) -> Any:
    """Fold the mean over quantiles, which come first in a row of (quantiles · actions), into the last layer."""
    if array is None or not isinstance(choices, int) or len(array) % max(1, choices):
        raise SourceError(f"{path}: its outputs do not fit {choices} actions")
    return array.reshape(-1, choices, *array.shape[1:]).astype(np.float64).mean(axis=0)


def _sequence(archive: Archive, prefix: str) -> list[str]:
    """Return the linear layers of a Sequential of linear layers and activations: prefix.0, prefix.2, …"""
    keys = [key.removeprefix(f"{prefix}.") for key in archive.weights if key.startswith(f"{prefix}.")]
    matches = {key: re.fullmatch(r"(\d+)\.(weight|bias)", key) for key in keys}
    indices = sorted({int(match[1]) for match in matches.values() if match})
    for index in indices:
        weight, bias = (archive.weights.get(f"{prefix}.{index}.{part}") for part in ("weight", "bias"))
        if weight is not None and weight.ndim == 1 < weight.size and f"{index}.running_mean" not in keys:
            raise refusal(f"{prefix}.{index}", "RMSNorm" if bias is None else "LayerNorm")
    odd = [key for key, match in matches.items() if match is None or archive.weights[f"{prefix}.{key}"].ndim > 2]
    if odd or indices != list(range(0, 2 * len(indices), 2)):
        reason = f"expected linear layers and activations in turn, found {odd or indices}"
        raise UnsupportedLayerError(prefix, "Sequential", reason, "Pass the actor as a torch module")
    return [f"{prefix}.{index}" for index in indices]


def _activation(archive: Archive) -> tuple[str, str, float]:
    text = _DEFAULTS.get(archive.family, "ReLU") if archive.activation is None else archive.activation
    name = re.sub(r"^<class 'torch\.nn\.modules\.activation\.(\w+)'>$", r"\1", text)
    if name not in _ACTIVATIONS:
        raise UnsupportedLayerError("policy_kwargs.activation_fn", text, "it is not supported", f"Use {ACTIVATIONS}")
    return name, *_ACTIVATIONS[name]


def _clips_mean(archive: Archive) -> bool:
    """Return whether ±clip_mean clips the mean before the tanh: in SAC and TQC with gSDE, unless it is 0."""
    return archive.family in ("sac", "crossq") and "actor.mu.0.weight" in archive.weights


def _head(archive: Archive, low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> Sequence[Operation]:
    if archive.actions.choices is not None:
        if low is not None or high is not None:
            raise SourceError("low, high: a discrete policy takes no bounds")
        several = archive.actions.choices if isinstance(archive.actions.choices, tuple) else None
        return [ArgMax(several, path="action_space", kind="Discrete")]
    bottom, top = (archive.actions.low if low is None else low), (archive.actions.high if high is None else high)
    if bottom is None or top is None:
        raise SourceError("the action bounds are only printed in this zip, and shortened: pass low= and high=")
    if archive.family in _SQUASHED or archive.squash:
        if not (np.isfinite(bottom).all() and np.isfinite(top).all()):
            raise SourceError("a squashed policy needs finite action bounds: pass low= and high=")
        return squash("action_space", bottom, top, archive.clip_mean if _clips_mean(archive) else None)
    return [clip("action_space", "Clip", bottom, top)]
