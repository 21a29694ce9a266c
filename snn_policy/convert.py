"""convert(): a trained actor and recorded observations → a spiking policy. The pipeline, nothing else."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.crpi import DEFAULT_ALPHA, ResidualRule, default_clip, pilot_alpha
from snn_policy.errors import UnsupportedLayerError
from snn_policy.network import SpikingNetwork
from snn_policy.neurons import MOST_DIGITS, MOST_LEVELS, MOST_TIMESTEPS, MembraneNeurons
from snn_policy.numbers import frozen_array, number, whole
from snn_policy.open_loop import OpenLoop, Predictor
from snn_policy.policy import SpikingPolicy
from snn_policy.progress import busy, repeating
from snn_policy.protocol import FloatArray
from snn_policy.quanta import calibrated_neurons, default_digits, given_neurons
from snn_policy.recordings import as_recordings
from snn_policy.spike_calibration import SpikeCalibration
from snn_policy.thresholds import recorded_thresholds

DEFAULT_TOLERANCE = 0.02
DEFAULT_TIMESTEPS, DEFAULT_LEVELS = 8, 4
PILOT_SEED, PILOT_EPISODES = 90_000, 8
NEURONS = ("sigma-delta", "if", "snm", "mt")


def convert(
    actor: Any,
    observations: Any,
    *,
    neuron: str = "sigma-delta",
    coding: str | None = None,
    timesteps: int | None = None,
    levels: int | None = None,
    threshold: str | Sequence[npt.ArrayLike] | None = None,
    alpha: float | Sequence[float] | str | None = None,
    alpha_clip: float | None = None,
    residual: ResidualRule | None = None,
    tolerance: float | None = None,
    digits: int | Sequence[int] | None = None,
    base: float | None = None,
    predictor: Predictor | None = None,
    calibration: SpikeCalibration | None = None,
    engine: str = "auto",
    progress: bool = False,
) -> SpikingPolicy:
    """Convert an actor, without retraining and without changing it.

    Args:
        actor: an `Actor`, or anything `load_actor` reads.
        observations: (N, *observation_shape) consecutive observations, an iterable of such arrays, or a Minari
            dataset; `actor.collect(env)` records them. They set thresholds, quanta and predictors.
        neuron: "sigma-delta" (default: any activation), or the papers' "if" (ReLU, QCFS), "snm", "mt" (ReLU).
        coding: "rate" (default) or "differential"; if, snm, mt only, as are the next six.
        timesteps: T per decision; by default 8, for a QCFS actor its L.
        levels: of "mt" only, 4 by default.
        threshold: "mse" (default), "max", "percentile:99.9", or one array per hidden layer; a QCFS actor
            brings its own by default, θ = λ. For sigma-delta: the quanta, one array per stage (observation
            first), instead of a tolerance.
        alpha: CRPI's share of the residual carried on: a float (0.3 by default; 0 resets every decision), one
            per hidden layer, or "pilot", which tries 0.3 and 0.8 on the actor's environment (`actor.env_id`).
        alpha_clip: bound of the carried charge in thresholds; 1/2, for mt and differential coding 1/16.
        residual: "bounded" (default) or "plain".
        tolerance: of sigma-delta only, as are the next three: RMS action error on the recorded observations,
            as a share of the action's half-range, where its bounds are infinite of its recorded spread; 0.02 by
            default.
        digits: most spikes per neuron and decision, one number or one per stage; (6, 4, …, 4, 6) by default.
        base: β of the spikes' sizes ±q·βⁱ, 2 by default.
        predictor: "auto" (default) chooses γ per neuron by its spikes on the recording; give 0 or 1 where
            the observations are not consecutive.
        calibration: spike calibration, of "if" neurons with rate coding (`SpikeCalibration`).
        engine: "auto" (the event-driven one), "event", "numpy", "torch" or "torch:DEVICE", as in "torch:cuda".
        progress: show a bar on stderr.

    Raises:
        ValueError: an argument that the neuron does not take, or a value out of range.
        UnsupportedLayerError: an activation that the neuron cannot stand for.
    """
    source = _as_actor(actor)
    recordings = as_recordings(observations, source.observation_shape)
    membrane = {"coding": coding, "timesteps": timesteps, "alpha": alpha, "alpha_clip": alpha_clip,
                "residual": residual, "levels": levels, "calibration": calibration}  # fmt: skip
    sigma_delta = {"tolerance": tolerance, "digits": digits, "base": base, "predictor": predictor}
    if neuron not in NEURONS:
        raise ValueError(f"neuron {neuron!r}: expected one of {', '.join(NEURONS)}")
    if neuron == "sigma-delta":
        _refuse(neuron, membrane)
        policy = _convert_sigma_delta(source, recordings, threshold, engine, progress, **sigma_delta)
    else:
        _refuse(neuron, sigma_delta | ({} if neuron == "mt" else {"levels": levels}))
        if neuron != "if":
            _refuse(neuron, {"calibration": calibration})
        policy = _convert_membrane(source, recordings, neuron, threshold, engine, progress, **membrane)
    with busy("preparing the engine", progress):
        policy.warm_up()
    return policy


def _as_actor(actor: Any) -> Actor:
    if isinstance(actor, Actor):
        return actor
    from snn_policy.sources import load_actor

    return load_actor(actor)


def _refuse(neuron: str, arguments: dict[str, Any]) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: not an argument of the {neuron!r} neuron; leave it out")


def _convert_sigma_delta(
    actor: Actor,
    recordings: FloatArray,
    threshold: Any,
    engine: str,
    progress: bool,
    *,
    tolerance: float | None,
    digits: int | Sequence[int] | None,
    base: float | None,
    predictor: Predictor | None,
) -> SpikingPolicy:
    stages = len(actor.layers)
    settings: dict[str, Any] = {
        "digits": _digits(digits, stages),
        "base": 2.0 if base is None else number("base", base),
        "predictor": "auto" if predictor is None else predictor,
    }
    if settings["predictor"] not in ("auto", 0, 1) or isinstance(predictor, bool):
        raise ValueError(f"predictor {predictor!r}: expected 'auto', 0 or 1")
    if threshold is None:
        wanted = DEFAULT_TOLERANCE if tolerance is None else number("tolerance", tolerance)
        if not 0 < wanted <= 1:
            raise ValueError(
                f"tolerance {tolerance!r}: expected a share of the action's half-range (unbounded: spread) in (0, 1]"
            )
        with repeating("calibrating", progress) as passes:
            neurons, measured = calibrated_neurons(actor, recordings, wanted, **settings, passes=passes)
    else:
        if tolerance is not None:
            raise ValueError("threshold, tolerance: explicit quanta and a tolerance exclude each other; give one")
        if isinstance(threshold, str):
            raise ValueError(f"threshold {threshold!r}: sigma-delta takes quanta, one array per stage, or a tolerance")
        wanted = None
        quanta = _given_thresholds(threshold, actor.groups, "stage")
        with repeating("calibrating", progress) as passes:
            neurons, measured = given_neurons(actor, recordings, quanta, **settings, passes=passes)
    conversion = {"neuron": "sigma-delta", "tolerance": wanted, **settings, **_open_loop(measured, len(recordings))}
    return SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine, conversion=conversion)


def _open_loop(measured: OpenLoop, observations: int) -> dict[str, Any]:
    record = {
        "observations": observations,
        "open_loop_error": measured.error,
        "open_loop_spikes": [float(count) for count in measured.spikes],
    }
    return record if measured.changed_choices is None else {**record, "changed_choices": measured.changed_choices}


def _digits(digits: int | Sequence[int] | None, stages: int) -> tuple[int, ...]:
    if digits is None:
        return default_digits(stages)
    given: Any = digits
    per_stage = [given] * stages if np.ndim(given) == 0 else list(given)
    if len(per_stage) != stages or not all(whole(count, 1, MOST_DIGITS) for count in per_stage):
        raise ValueError(f"digits {digits!r}: expected 1 to {MOST_DIGITS}, one number or one per stage ({stages})")
    return tuple(int(count) for count in per_stage)


def _given_thresholds(threshold: Any, groups: tuple[tuple[int, int], ...], place: str) -> tuple[FloatArray, ...]:
    """(neurons,) each; a convolution's may be given per channel."""
    if not hasattr(threshold, "__len__") or len(threshold) != len(groups):
        raise ValueError(f"threshold {threshold!r}: expected one array per {place} ({len(groups)})")
    arrays = []
    for index, (values, (channels, positions)) in enumerate(zip(threshold, groups, strict=True)):
        width = channels * positions
        if np.shape(values) == (channels,):
            values = np.repeat(np.asarray(values), positions)
        array = frozen_array(np.broadcast_to(np.asarray(values), (width,)) if np.ndim(values) == 0 else values,
                             f"threshold[{index}]", 1)  # fmt: skip
        if array.shape != (width,):
            raise ValueError(f"threshold[{index}]: expected {width} values, got shape {array.shape}")
        if (array < 0).any():
            raise ValueError(f"threshold[{index}]: expected no negative values, got {array.min():g}")
        arrays.append(array)
    return tuple(arrays)


def _convert_membrane(
    actor: Actor,
    recordings: FloatArray,
    model: Any,
    threshold: Any,
    engine: str,
    progress: bool,
    *,
    coding: Any,
    timesteps: int | None,
    levels: int | None,
    alpha: Any,
    alpha_clip: float | None,
    residual: Any,
    calibration: SpikeCalibration | None,
) -> SpikingPolicy:
    coding = "rate" if coding is None else coding
    _check_activations(actor, model, coding)
    trained, levels_trained = _trained_thresholds(actor)
    steps = _whole("timesteps", timesteps, levels_trained or DEFAULT_TIMESTEPS, MOST_TIMESTEPS)
    rule = "mse" if threshold is None else threshold
    if threshold is None and trained is not None:
        thresholds, rule = trained, "trained"
    elif isinstance(rule, str):
        with repeating("calibrating", progress) as passes:
            thresholds = recorded_thresholds(actor, recordings, rule, steps, passes)
    else:
        thresholds, rule = _given_thresholds(rule, actor.groups[1:], "hidden layer"), "given"

    def with_alpha(value: Any) -> SpikingPolicy:
        neurons = MembraneNeurons(
            model=model,
            coding=coding,
            timesteps=steps,
            thresholds=thresholds,
            alpha=_alphas(value, len(thresholds)),
            alpha_clip=default_clip(model, coding) if alpha_clip is None else number("alpha_clip", alpha_clip),
            residual="bounded" if residual is None else residual,
            levels=_whole("levels", levels, DEFAULT_LEVELS, MOST_LEVELS),
            calibration=calibration,
        )
        conversion = {"neuron": model, "coding": coding, "timesteps": steps, "threshold": rule,
                      "alpha": np.asarray(value, np.float64).tolist(),
                      "alpha_rule": alpha if isinstance(alpha, str) else "given",
                      "calibration": None if calibration is None else asdict(calibration),
                      "observations": len(recordings)}  # fmt: skip
        return SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine, conversion=conversion)

    if isinstance(alpha, str):
        alpha_chosen = _pilot(actor, with_alpha, progress) if alpha == "pilot" else None
        if alpha_chosen is None:
            raise ValueError(f"alpha {alpha!r}: expected a number, one per hidden layer, or 'pilot'")
        return with_alpha(alpha_chosen)
    return with_alpha(DEFAULT_ALPHA if alpha is None else alpha)


def _whole(name: str, value: Any, default: int, most: int) -> int:
    if value is not None and not whole(value, 1, most):
        raise ValueError(f"{name} {value!r}: expected a whole number from 1 to {most}")
    return default if value is None else int(value)


def _check_activations(actor: Actor, model: str, coding: str) -> None:
    """IF neurons under rate coding stand for ReLU and QCFS, all other membrane neurons for ReLU."""
    served = ("relu", "qcfs") if model == "if" and coding == "rate" else ("relu",)
    for index, layer in enumerate(actor.hidden):
        if layer.activation is not None and layer.activation.name not in served:
            what = "neuron='if' with coding='rate', or " if layer.activation.name == "qcfs" else ""
            raise UnsupportedLayerError(
                f"{actor.name}.layers.{index}",
                layer.activation.name,
                f"{model!r} neurons with {coding} coding stand for {' and '.join(served)} only",
                f'Use {what}neuron="sigma-delta", which serves any activation.',
            )


def _trained_thresholds(actor: Actor) -> tuple[tuple[FloatArray, ...] | None, int]:
    """θ = λ per hidden layer and T = L of an all-QCFS actor (methods.md §4), else None and 0."""
    quantised = [layer.activation for layer in actor.hidden if layer.activation and layer.activation.name == "qcfs"]
    if not quantised or len(quantised) < len(actor.hidden):
        return None, 0
    widths = actor.widths[1:]
    thresholds = tuple(np.full(width, f.parameter, np.float32) for width, f in zip(widths, quantised, strict=True))
    return thresholds, max(f.levels for f in quantised)


def _alphas(alpha: Any, layers: int) -> tuple[float, ...]:
    values = [alpha] * layers if np.ndim(alpha) == 0 else list(alpha)
    if len(values) != layers:
        raise ValueError(f"alpha {alpha!r}: expected one number, or one for each of {layers} hidden layers")
    return tuple(number("alpha", value) for value in values)


def _pilot(actor: Actor, with_alpha: Any, progress: bool) -> float:
    from snn_policy.evaluate import evaluate

    if actor.env_id is None:
        raise ValueError("alpha 'pilot': the actor's environment is not known; set actor.env_id, or give a number")
    env_id = actor.env_id

    def returns_at(alpha: float) -> npt.NDArray[np.float64]:
        bar = progress and f"trying α = {alpha}"
        evaluation = evaluate(with_alpha(alpha), env_id, episodes=PILOT_EPISODES, seed=PILOT_SEED, progress=bar)
        return np.asarray(evaluation.returns, np.float64)

    return pilot_alpha(returns_at)
