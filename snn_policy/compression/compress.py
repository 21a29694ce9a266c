"""compress(): a trained actor → a sparse and quiet one that acts alike, by distillation on its own states.

Equations, sources and figures: docs/compression.md.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.calibration.action_units import unit_name
from snn_policy.calibration.recording_doubts import warn_of_another_scale
from snn_policy.calibration.recordings import HANDFUL, as_recordings, chunks, distinct_rows
from snn_policy.checks import require
from snn_policy.compression.rounding import SIGNIFICANT_BITS
from snn_policy.compression.settings import (
    ADDITIONS,
    MOST_PICTURE_BYTES,
    PICTURE_BATCH,
    STEPS,
    CompressionSettings,
    Target,
    numbers_of_states,
)
from snn_policy.environments import EnvironmentSource, make_environment
from snn_policy.errors import UnsupportedLayerError, needs_extra, warn
from snn_policy.progress import counting

if TYPE_CHECKING:
    from snn_policy.compression.distillation import Distillation
    from snn_policy.compression.states import States

CHECKPOINT_EVERY = 1_000
RECORDING_SEED = 500_000
FEWEST_OBSERVATIONS = 256
SMALLEST_ACTION, SMALLEST_CHANGE = 1e-5, {False: 1e-3, True: 1e-2}
"""Half-ranges between the actions; standard deviation as a share of a value's size, of pictures (True) the
brightest one's: a recording that moves less shows nothing but noise."""
LARGE_ERROR = 0.1
"""RMS, in the actions' units: the students of docs/compression.md err by up to 0.093; one that errs by 0.12 falls."""
STANDS_STILL = "a recording that does not move says nothing to learn from; record ordinary episodes, or give --env"

Report = Callable[[dict[str, Any]], None]
"""Called now and then with step, error, density, energy, and the verdicts so far."""


def compress(
    actor: Any,
    env: EnvironmentSource | None = None,
    *,
    target: "str | Target" = "retention:0.99",
    observations: Any = None,
    steps: int = STEPS,
    seed: int = 0,
    block: int = 16,
    count: str = "spikes",
    tolerance: float | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    report: Report = lambda state: None,
) -> Actor:
    """Distil a sparse ReLU actor whose default conversion needs a fraction of the energy; the given one stays as it is.

    The student begins as a copy (activations other than ReLU: anew, with the same widths), learns the actor's actions
    on the actor's states and on those of its own spiking episodes, and is pruned on the way. Runs on one core for some
    minutes; needs torch. The same arguments give the same bytes on the same machine.

    Args:
        actor: an `Actor` or anything `load_actor` reads: a chain of linear layers and convolutions.
        env: a Gymnasium id, or a function that makes an environment; by default `actor.env_id`, unless `observations`
            are given.
        target: "energy:E", the spiking student's energy as a share of the dense actor's (profile fp32-45nm), or
            "retention:R", the share of the mean return to be kept; the rest is as good as it gets.
        observations: (N, *observation_shape) consecutive ones, in any form that `convert` takes. With no `env` they
            are all there is: noise on them stands in for episodes, and only an energy can be wanted.
        steps: gradient steps at most.
        block: weights of one neuron to so many consecutive neurons are pruned together; 16 suit a processor's
            registers.
        count: what is kept low, "spikes" or "events" (neurons that say anything at all in a decision).
        tolerance: of the conversion that the student is made for; by default the finest that the
            wanted energy allows, from a half of the student's own action error (0.02 to 0.05) up to all of it.
            `convert` finds it in `provenance`.
        directory: where checkpoints go; with `resume` a run that was stopped there goes on.

    Returns:
        The student, dense arrays with exact zeros; `provenance` says what was done.

    Raises:
        ValueError: arguments that make no sense; an environment that does not fit; a directory with another run.
        UnsupportedLayerError: no chain of layers, or nothing to prune.
        ImportError: torch is not installed.
    """
    from snn_policy.sources import load_actor

    wanted, source = Target.parse(target), load_actor(actor)
    place = env if env is not None else source.env_id if observations is None else None
    check_compression(source, wanted, place, observations)
    observed, added = numbers_of_states(int(np.prod(source.observation_shape)), steps)
    settings = CompressionSettings(wanted, steps, seed, block, count, tolerance, observed, added)
    if sees_pictures(source):
        observed, added = numbers_of_states(_picture_bytes(source, place), steps, MOST_PICTURE_BYTES)
        settings = replace(settings, observations=observed, added=added, batch=PICTURE_BATCH)
    return run_compression(
        source, settings, place, observations, None if directory is None else Path(directory), resume, progress, report
    )


def check_compression(actor: Actor, target: Target, env: EnvironmentSource | None, observations: Any = None) -> None:
    """Refuse what cannot be compressed, before anything takes time."""
    if not actor.graph.is_chain:
        raise UnsupportedLayerError(
            *actor.graph.no_layer, "compression takes chains of layers only",
            "Convert the actor as it is, with sigma-delta neurons: convert(actor, observations).",
        )  # fmt: skip
    if not actor.hidden:
        raise UnsupportedLayerError(
            actor.name, "linear", "it has no hidden layer that could be pruned", "Convert it as it is."
        )
    if env is None:
        require(observations is not None, f"{actor.name}: its environment is not known; give env, or observations")
        remedy = "give env, or target='energy:E'"
        require(target.kind == "energy", f"target {target}: a return needs an environment; {remedy}")
    else:
        make_environment(env, actor).close()
    _require_torch()


def sees_pictures(actor: Actor) -> bool:
    """Return whether the first layer is a convolution."""
    return isinstance(actor.layers[0], Conv2d)


def _picture_bytes(actor: Actor, env: EnvironmentSource | None) -> int:
    """Return how many bytes one observation takes, as the environment gives it."""
    size = int(np.prod(actor.observation_shape))
    if env is None:
        return size
    made = make_environment(env, actor)
    try:
        return size * (1 if made.observation_space.dtype == np.uint8 else 4)
    finally:
        made.close()


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise needs_extra("torch", task="compress trains, and") from None


def run_compression(
    actor: Actor,
    settings: CompressionSettings,
    env: EnvironmentSource | None,
    observations: Any = None,
    directory: Path | None = None,
    resume: bool = False,
    progress: bool = False,
    report: Report = lambda state: None,
) -> Actor:
    """Compress with any settings; all else as in `compress`."""
    from snn_policy.compression.checkpoints import claim_directory, describe_run, restore, save_checkpoint
    from snn_policy.compression.distillation import Distillation
    from snn_policy.compression.pictures import states_of
    from snn_policy.engines.one_thread import one_thread

    given = None if observations is None else _recording(observations, actor, HANDFUL if env is None else 2)
    with one_thread():
        states = None if given is None else states_of(actor, given)
        if states is not None:
            _require_movement(states, actor)
        described = describe_run(actor, settings, _name(env), "" if states is None else states.fingerprint)
        if directory is not None and claim_directory(directory, described, resume):
            run = restore(directory, described, actor, settings, env)
        else:
            if states is None:
                assert env is not None
                seed = RECORDING_SEED + settings.seed
                recorded = actor.collect(env, settings.observations, seed, progress=progress)
                states = states_of(actor, recorded, settings.observations + ADDITIONS * settings.added)
            run = Distillation(actor, states, settings, env)

        def keep() -> None:
            if directory is not None:
                save_checkpoint(run, directory, described)
            report(_state(run))

        _train(run, keep, progress)
    return _result(run, _name(env))


def _train(run: "Distillation", keep: Callable[[], None], progress: bool) -> None:
    """Run blocks until the run is finished, and `keep` what there is now and then."""
    with counting(f"compressing {run.teacher.name}", run.settings.steps, progress) as advance:
        for _ in range(run.progress.step):
            advance()
        while not run.progress.finished:
            before = run.progress.step
            run.run_block()
            _require_finite(run)
            for _ in range(run.progress.step - before):
                advance()
            if run.progress.step % CHECKPOINT_EVERY == 0 or run.progress.finished:
                keep()
        for _ in range(run.progress.step, run.settings.steps):  # not needed
            advance()


def _recording(observations: Any, actor: Actor, least: int) -> npt.NDArray[Any]:
    """Return (N, *shape) as the student learns from it, refused where fewer than `least` of its rows differ."""
    recording = np.asarray(as_recordings(observations, actor.observation_shape))
    warn_of_another_scale(recording, actor)
    if sees_pictures(actor):
        from snn_policy.compression.pictures import thinned

        recording = thinned(recording)
    else:
        recording = recording.astype(np.float32, copy=False)
    enough = len(recording) >= FEWEST_OBSERVATIONS
    require(enough, f"observations: {len(recording)} of them; at least {FEWEST_OBSERVATIONS} are needed")
    different = distinct_rows(recording, least)
    require(different >= least, f"observations: only {different} different among {len(recording)}: {STANDS_STILL}")
    return recording


def _deviations(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each column of (N, values), a few rows at a time."""
    first, total, squares = rows[0].astype(np.float64), 0.0, 0.0
    for chunk in chunks(rows):
        off = chunk - first
        total, squares = total + off.sum(0), squares + (off * off).sum(0)
    return np.sqrt(np.maximum(squares / len(rows) - (total / len(rows)) ** 2, 0))


def _require_movement(states: "States", actor: Actor) -> None:
    """Refuse a recording in which nothing happens apart from noise: of what is seen, or of what is done."""
    rows = np.asarray(states.observations).reshape(len(states), -1)
    pictures = sees_pictures(actor)
    sizes = np.maximum(abs(rows.max(0).astype(np.float64)), abs(rows.min(0).astype(np.float64)))
    size = sizes.max() if pictures else sizes
    changes = _deviations(rows) / np.maximum(size, 1e-30)
    least, most = SMALLEST_CHANGE[pictures], float(changes.max())
    require(most > least, f"observations: no value varies by more than {most:.1g} of its size: {STANDS_STILL}")
    acted = float(np.ptp(states.actions.numpy(), axis=0).max())
    same = f"the actor's action moves by {acted:.1g} units at most"
    require(acted > SMALLEST_ACTION, f"observations: {same}: {STANDS_STILL}")


def _name(env: EnvironmentSource | None) -> str | None:
    return env if isinstance(env, str) or env is None else getattr(env, "__name__", type(env).__name__)


def _require_finite(run: "Distillation") -> None:
    if not run.parameters.values.isfinite().all():
        raise ValueError(f"{run.teacher.name}: training diverged before step {run.progress.step}; use other states")


def _state(run: "Distillation") -> dict[str, Any]:
    now = run.progress
    return {
        "step": now.step, "error": now.error, "density": run.student.density, "energy": now.energy,
        "spike_weight": now.weight, "verdicts": list(now.verdicts),
    }  # fmt: skip


def _result(run: "Distillation", env: str | None) -> Actor:
    """Return the kept student, and in its provenance what was done and found."""
    from snn_policy.compression.distillation import ENOUGH

    assert run.kept is not None
    settings, kept = run.settings, run.kept
    run.parameters.values.copy_(kept.values)
    run.student.kept = kept.masks
    target, verdict = settings.target, kept.verdict
    reached = verdict.passes(target.value) if target.kind == "retention" else verdict.needs_at_most(target.value)
    if not reached:
        warn(f"{run.teacher.name}: {target} was not reached ({verdict}); give more steps, or ask less")
    elif target.kind == "energy" and verdict.surely_loses(ENOUGH):
        warn(f"{run.teacher.name}: {target} was reached, but return is lost ({verdict}); give more steps or energy")
    if not verdict.episodes and (verdict.error or 0) > LARGE_ERROR:
        unit = unit_name(run.teacher)
        warn(
            f"{run.teacher.name}: the student's actions differ from the actor's by {verdict.error:.2f} {unit} (RMS) on "
            "the recording, and no episodes were run to tell what return that costs; give more steps or energy, or env"
        )
    record = {
        "method": "distilled and pruned (docs/compression.md)",
        "teacher": run.teacher.name,
        "target": str(target),
        "reached": reached,
        "steps": kept.step,
        "seed": settings.seed,
        "block": settings.block,
        "count": settings.count,
        "env": env,
        "states": len(run.states),
        "density": run.student.density,
        "significant_bits": SIGNIFICANT_BITS,
        "teacher_macs": run.teacher.dense_macs,
        **verdict.as_dict(),
    }
    student = run.student.actor()
    return replace(student, provenance={**student.provenance, "compression": record})
