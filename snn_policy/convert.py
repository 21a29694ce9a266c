"""convert(): a trained actor and recorded observations → a spiking policy. The pipeline, nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.calibration.episodes import known_starts
from snn_policy.calibration.open_loop import Encoding, OpenLoop
from snn_policy.calibration.pilots import Pilot, asked_of_pilots, environment_for, run_pilots
from snn_policy.calibration.recording_doubts import warn_of_another_scale
from snn_policy.calibration.recordings import as_recordings
from snn_policy.calibration.sensitivity import calibrated_neurons, given_neurons
from snn_policy.calibration.thresholds import recorded_thresholds
from snn_policy.checks import frozen_array, number, require
from snn_policy.engines import check_engine
from snn_policy.errors import UnsupportedLayerError, warn
from snn_policy.policy import SpikingPolicy
from snn_policy.progress import busy, repeating
from snn_policy.protocol import FloatArray
from snn_policy.spiking.crpi import ResidualRule
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.settings import (
    DEFAULT_TIMESTEPS,
    IF,
    MT,
    PER_LAYER,
    PILOT,
    SNM,
    TRAINED,
    NeuronSettings,
    Predictor,
    SigmaDelta,
    as_record,
    settings_of,
)
from snn_policy.spiking.spike_calibration import SpikeCalibration

ONE_EPISODE = (
    "the recording does not say where its episodes begin, and is taken for one: a recurrent actor starts each from "
    "rest. Give episode_starts=, one truth value per observation; actor.collect(env) and Minari datasets say it "
    "themselves"
)


def convert(
    actor: Any,
    observations: Any,
    episode_starts: npt.ArrayLike | None = None,
    *,
    neuron: str | NeuronSettings = "sigma-delta",
    coding: str | None = None,
    timesteps: int | None = None,
    levels: int | None = None,
    threshold: str | Sequence[npt.ArrayLike] | None = None,
    alpha: float | Sequence[float] | str | None = None,
    alpha_clip: float | None = None,
    residual: ResidualRule | None = None,
    tolerance: float | str | None = None,
    digits: int | Sequence[int] | None = None,
    base: float | None = None,
    predictor: Predictor | None = None,
    calibration: SpikeCalibration | None = None,
    engine: str = "auto",
    env: Any = None,
    pilot: Pilot | None = None,
    progress: bool = False,
) -> SpikingPolicy:
    """Convert an actor, without retraining and without changing it.

    Args:
        actor: an `Actor`, or anything `load_actor` reads.
        observations: (N, *observation_shape) consecutive observations, an iterable of such arrays, or a Minari
            dataset; `actor.collect(env)` records them. They set thresholds, quanta and predictors.
        episode_starts: (N,) whether an episode begins there, of recurrent actors; what `collect` returns, and a Minari
            dataset, say it themselves. Without, the recording is taken for one episode, with a warning.
        neuron: settings, `SigmaDelta(…)`, `IF(…)`, `SNM(…)` or `MT(…)`; or a name, with settings as the arguments
            below: "sigma-delta" (default: any activation), or the papers' "if" (ReLU, QCFS), "snm", "mt" (ReLU).
        coding: "rate" (default) or "differential"; if, snm, mt only, as are timesteps,
            levels, alpha_clip and residual.
        timesteps: T per decision; by default 8, for a QCFS actor its L.
        levels: of "mt" only, 4 by default.
        threshold: "mse" (default), "max", "percentile:99.9", or one array per hidden layer; a QCFS actor
            brings its own by default, θ = λ. For sigma-delta: the quanta, one array per stage (observation
            first), instead of a tolerance.
        alpha: share of the residual carried on to the next decision. CRPI's: a float (0.3 by default; 0 resets
            every decision), one per hidden layer, or "pilot", which tries 0.3 and 0.8. Of sigma-delta: a float (0.5
            by default), one per stage (observation first), or "pilot", which tries 0, 0.5 and 1.
        alpha_clip: bound of the carried charge in thresholds; 1/2, for mt and differential coding 1/16.
        residual: "bounded" (default) or "plain".
        tolerance: of sigma-delta only, as are the next three: RMS action error on the recorded observations,
            as a share of the action's half-range, where its bounds are infinite of its recorded spread; 0.02 by
            default, of compressed actors what they were made for. "pilot": the largest of 0.05, 0.03, 0.02,
            0.01, 0.005 that keeps the return and fails no more often than the ANN, by a sequential test in the
            environment (docs/methods.md §13).
        digits: most spikes per neuron and decision, one number or one per stage; (6, 4, …, 4, 6) by default.
        base: β of the spikes' sizes ±q·βⁱ, 2 by default.
        predictor: "auto" (default) chooses γ per neuron by its spikes on the recording; give 0 or 1 where
            the observations are not consecutive.
        calibration: spike calibration, of "if" neurons with rate coding (`SpikeCalibration`).
        engine: "auto" (the event-driven one), "event", "numpy", "torch" or "torch:DEVICE", as in "torch:cuda".
        env: what pilots ask: a Gymnasium id or a function that makes an environment; by default `actor.env_id`.
            `policy.conversion["pilot"]` keeps what was tried, and a report on seeds that the choice never saw.
        pilot: the loss that pilots allow, their episodes and seeds (`snn_policy.calibration.pilots.Pilot`).
        progress: show a bar on stderr; of pilots the environment steps used, of those that there can be at most.

    Raises:
        ValueError: an argument that the neuron does not take, or a value out of range.
        UnsupportedLayerError: an activation that the neuron cannot stand for.
    """
    from snn_policy.sources import load_actor

    settings = settings_of(
        neuron, coding=coding, timesteps=timesteps, levels=levels, threshold=threshold, alpha=alpha,
        alpha_clip=alpha_clip, residual=residual, tolerance=tolerance, digits=digits, base=base, predictor=predictor,
        calibration=calibration,
    )  # fmt: skip
    _refuse_swapped(actor, observations)
    source = load_actor(actor)
    settings = with_own_tolerance(source, settings)
    check_settings(source, settings, env, pilot)
    check_engine(source, engine)
    recordings = as_recordings(observations, source.observation_shape, episode_starts)
    warn_of_another_scale(recordings, source)
    if source.recurrent and known_starts(recordings) is None:
        warn(ONE_EPISODE)
    make = _conversion(source, recordings, settings, engine, progress)
    if asked_of_pilots(settings):
        found, record = run_pilots(source, settings, make, env, pilot or Pilot(), progress)
        policy = SpikingPolicy(found.network, engine=found.engine, conversion={**found.conversion, "pilot": record})
    else:
        policy = make(settings)
    with busy("preparing the engine", progress):
        policy.warm_up()
    return policy


def with_own_tolerance(actor: Actor, settings: NeuronSettings) -> NeuronSettings:
    """Return the settings with the tolerance that a compressed actor was made for, where none is given."""
    if not isinstance(settings, SigmaDelta) or settings.tolerance is not None or settings.threshold is not None:
        return settings
    record = actor.provenance.get("compression")
    made_for = record.get("tolerance") if isinstance(record, Mapping) else None
    return settings if made_for is None else replace(settings, tolerance=number("compression tolerance", made_for))


def _refuse_swapped(actor: Any, observations: Any) -> None:
    """Say so where recordings stand in an actor's place; what else is no actor, `load_actor` refuses."""
    held = getattr(observations, "actor", observations)
    arrays = isinstance(actor, np.ndarray | list | tuple) or hasattr(actor, "iterate_episodes")
    if isinstance(held, Actor) or (arrays and (callable(observations) or isinstance(observations, str | Path))):
        kinds = f"{type(actor).__name__}, {type(observations).__name__}"
        reason = "the arguments are swapped" if arrays else "the second is an actor, not what it has seen"
        raise TypeError(f"convert: expected convert(actor, observations), got ({kinds}); {reason}")


def check_settings(actor: Actor, settings: NeuronSettings, env: Any = None, pilot: Pilot | None = None) -> None:
    """Refuse settings that do not fit the actor, before anything is recorded; `env`: what pilots are to ask.

    Raises:
        ValueError: numbers or arrays for another number of layers; a pilot without an environment, or the reverse.
        UnsupportedLayerError: an activation that the neuron cannot stand for.
    """
    asked = asked_of_pilots(settings)
    if asked:
        environment_for(actor, asked, env)
    for name, given in (("env", env), ("pilot", pilot)):
        wanted = "of tolerance='pilot' and alpha='pilot' only; leave it out"
        require(bool(asked) or given is None, f"{name}: {wanted}")
    if isinstance(settings, SigmaDelta):
        replace(settings, **dict.fromkeys(asked, 0.5)).settled(len(actor.widths))
        if settings.threshold is not None:
            _given_thresholds(settings.threshold, actor.groups, "stage")
        return
    _check_activations(actor, settings.neuron, settings.coding)
    if settings.threshold is not None and not isinstance(settings.threshold, str):
        _given_thresholds(settings.threshold, actor.groups[1:], "hidden layer")
    if not asked:
        settings.settled(len(actor.hidden))


def _conversion(
    actor: Actor, recordings: FloatArray, settings: NeuronSettings, engine: str, progress: bool
) -> Callable[[Any], SpikingPolicy]:
    """Return what converts with these settings, or with those that a pilot has put in the place of its own."""
    if not isinstance(settings, SigmaDelta):
        return _membrane_conversion(actor, recordings, settings, engine, progress)
    return lambda chosen: _convert_sigma_delta(actor, recordings, chosen, engine, progress)


def _convert_sigma_delta(
    actor: Actor, recordings: FloatArray, settings: SigmaDelta, engine: str, progress: bool
) -> SpikingPolicy:
    if settings.digits is None and not actor.graph.is_chain:
        settings = replace(settings, digits=_digits_of_graph(actor))
    settled = settings.settled(len(actor.widths))
    encoding = Encoding(settled.digits, settled.base, settled.predictor, settled.alpha)  # pyright: ignore
    with repeating("calibrating", progress) as passes:
        if settings.threshold is None:
            tolerance = float(settled.tolerance or 0)
            neurons, measured = calibrated_neurons(actor, recordings, tolerance, encoding, passes)
        else:
            quanta = _given_thresholds(settings.threshold, actor.groups, "stage")
            neurons, measured = given_neurons(actor, recordings, quanta, encoding, passes)
    conversion = {**as_record(settled), **_open_loop(measured, len(recordings))}
    return SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine, conversion=conversion)


def _digits_of_graph(actor: Actor) -> tuple[int, ...]:
    """Return the default D of every stage of a graph: as in a chain, more of those that are read last and first."""
    last = actor.graph.read_last
    return tuple(6 if stage == 0 or stage in last else 4 for stage in range(len(actor.widths)))


def _open_loop(measured: OpenLoop, observations: int) -> dict[str, Any]:
    record = {
        "observations": observations,
        "open_loop_error": measured.error,
        "open_loop_spikes": [float(count) for count in measured.spikes],
    }
    return record if measured.changed_choices is None else {**record, "changed_choices": measured.changed_choices}


def _given_thresholds(threshold: Any, groups: tuple[tuple[int, int], ...], place: str) -> tuple[FloatArray, ...]:
    """Return (neurons,) per layer; a convolution's may be given per channel."""
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


def _membrane_conversion(
    actor: Actor, recordings: FloatArray, settings: IF | SNM | MT, engine: str, progress: bool
) -> Callable[[Any], SpikingPolicy]:
    """Set the thresholds once, and return what makes a policy of settings that differ in α."""
    recordings = np.asarray(recordings)
    trained, levels_trained = _trained_thresholds(actor)
    steps = settings.timesteps or levels_trained or DEFAULT_TIMESTEPS
    rule = settings.threshold
    if rule is None and trained is not None:
        thresholds, rule = trained, TRAINED
    elif rule is None or isinstance(rule, str):
        rule = rule or "mse"
        with repeating("calibrating", progress) as passes:
            thresholds = recorded_thresholds(actor, recordings, rule, steps, passes)
    else:
        thresholds, rule = _given_thresholds(rule, actor.groups[1:], "hidden layer"), PER_LAYER

    def with_alpha(chosen: IF | SNM | MT) -> SpikingPolicy:
        asked = replace(settings, threshold=rule, alpha=chosen.alpha, timesteps=steps, alpha_clip=settings.clip)
        neurons = MembraneNeurons(asked.settled(len(thresholds)), thresholds)  # pyright: ignore[reportArgumentType]
        rule_of_alpha = PILOT if settings.alpha == PILOT else "given"
        alpha = np.asarray(chosen.alpha, np.float64).tolist()
        record = {"alpha": alpha, "alpha_rule": rule_of_alpha, "observations": len(recordings)}
        return SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine, conversion={**as_record(asked), **record})

    return with_alpha


def _check_activations(actor: Actor, model: str, coding: str) -> None:
    """Refuse what membrane neurons cannot stand for: IF under rate coding takes ReLU and QCFS, all others ReLU."""
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
    """Return θ = λ per hidden layer and T = L of an all-QCFS actor (methods.md §4), else None and 0."""
    quantised = [layer.activation for layer in actor.hidden if layer.activation and layer.activation.name == "qcfs"]
    if not quantised or len(quantised) < len(actor.hidden):
        return None, 0
    widths = actor.widths[1:]
    thresholds = tuple(np.full(width, f.parameter, np.float32) for width, f in zip(widths, quantised, strict=True))
    return thresholds, max(f.levels for f in quantised)
