"""What is read from a live Stable-Baselines3 object is compared with its own `predict`.

Only weights and a few options are read by name; what lies between them is assumed. Modules that were exchanged, hooks,
changed slopes or a `predict` of its own therefore show on random observations only.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError

_MOST_ROWS, _MOST_VALUES = 1024, 2**19
_UNBOUNDED = 1e6
_SCALES = (0.03, 0.3, 1.0, 10.0)
_TOLERANCE = 1e-4
_HIDDEN = (
    "actor.mu",
    "actor.latent_pi",
    "q_net.q_net",
    "quantile_net.quantile_net",
    "action_net",
    "mlp_extractor.policy_net",
    "mlp_extractor.shared_net",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_REMEDY = "Undo the change, or pass the changed network as a torch module of its own"


def check_agreement(actor: Actor, source: Any, policy: Any, normalised: bool) -> None:
    """Compare an actor, read without observation statistics, with the live object on random observations.

    Args:
        source: the algorithm or policy, whose `predict(deterministic=True)` is asked.
        policy: its policy; stays in the mode (training or evaluation) in which it was.
        normalised: whether it sees normalised observations, whatever its space says.

    Raises:
        UnsupportedLayerError: they differ; it names what may have been changed.
        SourceError: its `predict` fails.
    """
    rows = min(_MOST_ROWS, max(16, _MOST_VALUES // actor.layers[0].inputs))
    space = policy.observation_space
    given, observations = _drawn(space, rows, normalised)
    modes = [(module, module.training) for module in policy.modules()]
    try:
        own, outputs = _actions(source, policy, given), _outputs(policy, given)
    except Exception as problem:
        line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
        shape = observations.shape
        raise SourceError(f"{actor.name}: its predict fails on observations of shape {shape} ({line})") from problem
    finally:
        for module, mode in modes:
            module.training = mode
    if not _agree(actor, observations, own, outputs):
        suspects = ", ".join(_suspects(policy)) or "exchanged modules, hooks, slopes, a forward or predict of its own?"
        reason = f"its predict differs from what its weights and options tell ({suspects})"
        raise UnsupportedLayerError("policy", type(policy).__name__, reason, _REMEDY)


def _drawn(space: Any, rows: int, normalised: bool) -> tuple[Any, npt.NDArray[Any]]:
    """Draw random observations in the form that the policy takes, and as one array."""
    if not hasattr(space, "spaces"):
        drawn = _normal(rows, space.shape) if normalised else random_observations(space, rows)
        return drawn, drawn
    given = {key: _drawn(part, rows, normalised)[0] for key, part in space.spaces.items()}
    rng = np.random.default_rng(2)  # or all keys would be drawn alike
    given = {key: np.ascontiguousarray(values[rng.permutation(rows)]) for key, values in given.items()}
    return given, np.concatenate([values.reshape(rows, -1) for values in given.values()], axis=1)


def drawn_for(policy: Any, normalised: bool) -> npt.NDArray[Any]:
    """Return some random observations of the policy's space, dictionaries joined."""
    return _drawn(policy.observation_space, 64, normalised)[1]


def random_observations(space: Any, rows: int) -> npt.NDArray[Any]:
    """Draw observations of a Box: all over its bounds, near its centre, and at several scales where it has none."""
    rng = np.random.default_rng(0)
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    bounded = (np.abs(low) < _UNBOUNDED) & (np.abs(high) < _UNBOUNDED)
    bottom, top = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
    centre, reach = (bottom + top) / 2, (top - bottom) / 2
    scale = _scales(rows, len(space.shape))
    within = centre + rng.uniform(-1, 1, (rows, *space.shape)) * reach * np.minimum(scale, 1)
    drawn = np.where(bounded, within, np.clip(_normal(rows, space.shape), low, high))
    return (drawn if space.dtype.kind == "f" else np.rint(drawn)).astype(space.dtype)


def _normal(rows: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(1).standard_normal((rows, *shape)) * _scales(rows, len(shape))
    return drawn.astype(np.float32)


def _scales(rows: int, axes: int) -> npt.NDArray[np.float64]:
    return np.resize(_SCALES, rows).reshape(-1, *[1] * axes)


def _actions(source: Any, policy: Any, observations: Any) -> npt.NDArray[np.float64]:
    """Return the object's own deterministic actions; those within ±1 where it has no bounds to scale them to."""
    space = policy.action_space
    if hasattr(space, "low") and policy.squash_output and not np.isfinite([space.low, space.high]).all():
        import torch

        policy.set_training_mode(False)
        with torch.no_grad():
            tensor, _ = policy.obs_to_tensor(observations)
            return policy._predict(tensor, deterministic=True).cpu().numpy().astype(np.float64)
    return np.asarray(source.predict(observations, deterministic=True)[0], np.float64)


def _outputs(policy: Any, observations: Any) -> npt.NDArray[np.float64] | None:
    """Return what its last layer gives, before an argmax or a clip hides differences; None before a tanh."""
    import torch

    if policy.squash_output:
        return None
    with torch.no_grad():
        tensor, _ = policy.obs_to_tensor(observations)
        if hasattr(policy, "quantile_net"):
            given = policy.quantile_net(tensor).mean(dim=1)
        elif hasattr(policy, "q_net"):
            given = policy.q_net(tensor)
        elif not hasattr(policy, "get_distribution"):
            return None
        elif hasattr(policy.action_space, "nvec"):
            held = policy.get_distribution(tensor)
            parts = held.distributions if hasattr(held, "distributions") else held.distribution
            given = torch.cat([part.logits for part in parts], dim=1)
        elif hasattr(policy.action_space, "n"):
            given = policy.get_distribution(tensor).distribution.logits
        else:
            given = policy._predict(tensor, deterministic=True)
        return given.cpu().numpy().astype(np.float64)


def _agree(
    actor: Actor,
    observations: npt.NDArray[Any],
    own: npt.NDArray[np.float64],
    own_outputs: npt.NDArray[np.float64] | None,
) -> bool:
    batch = observations.astype(np.float32)
    actions, _ = actor.step(batch, ())
    if own.shape != actions.shape:
        return False
    outputs = actor.activations(batch)[1].astype(np.float64)
    if own_outputs is not None and not _close(_centred(actor, own_outputs), _centred(actor, outputs)):
        return False
    if actor.discrete:
        noise = _TOLERANCE * np.ptp(outputs, axis=0).max() + 1e-5 * np.abs(outputs).max()
        return all(
            (scores.max(axis=1) - np.take_along_axis(scores, column[:, None], axis=1)[:, 0] <= noise).all()
            for scores, column in zip(
                _pieces(actor, outputs), own.astype(np.int64).reshape(len(own), -1).T, strict=True
            )
        )
    return _close(own, actions.astype(np.float64))


def _centred(actor: Actor, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return logits without what is common to a row: a distribution stores them normalised."""
    if not actor.discrete:
        return outputs
    return np.concatenate([logits - logits.mean(axis=-1, keepdims=True) for logits in _pieces(actor, outputs)], axis=1)


def _pieces(actor: Actor, outputs: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Return the scores of every discrete action."""
    return np.split(outputs, np.cumsum(actor.head.choices)[:-1], axis=1)


def _close(own: npt.NDArray[np.float64], read: npt.NDArray[np.float64]) -> bool:
    if own.shape != read.shape:
        return False
    tolerance = _TOLERANCE * np.ptp(read, axis=0) + 1e-5 * np.abs(read).max() + 1e-9
    return bool((np.abs(own - read) <= tolerance).all())


def _suspects(policy: Any) -> Iterator[str]:
    """Name modules on the way to the action that are not as the policy's options make them."""
    plain = repr(policy.activation_fn())
    for path, module in policy.named_modules():
        if any(getattr(module, hooks, None) for hooks in _HOOKS):
            yield f"hooks on {path or 'the policy'}"
        if "forward" in vars(module):
            yield f"a forward of its own in {path or 'the policy'}"
        prefix, _, place = path.rpartition(".")
        if prefix in _HIDDEN and place.isdigit() and type(module).__name__ != "Linear":
            last = prefix == "actor.mu" and int(place) == len(policy.get_submodule(prefix)) - 1
            if repr(module) not in (plain, "Tanh()" if last else plain):
                yield f"{path} is {module!r}, not {plain}"
    for name in ("predict", "_predict"):
        if name in vars(policy):
            yield f"a {name} of its own"
