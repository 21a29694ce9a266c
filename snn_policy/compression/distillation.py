"""The training of a student: minibatches, pruning, the weight of the spikes, DAgger, judging (docs/compression.md).

Everything random depends on the seed and the step alone, so that a run resumes where it stopped, to the bit.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_policy.actor import Actor
from snn_policy.compression import plan
from snn_policy.compression.judging import Judge, Verdict
from snn_policy.compression.loss import COUNTS
from snn_policy.compression.profile import Profile, profile
from snn_policy.compression.pruning import operations, prune
from snn_policy.compression.settings import ADD_EVERY, ADDITIONS, CompressionSettings
from snn_policy.compression.states import States, spiking_episodes
from snn_policy.compression.student import Student
from snn_policy.compression.tolerances import (
    Conversion,
    conversion,
    finest_conversion,
    own_tolerance,
    tolerances_worth_having,
)
from snn_policy.energy import nanojoules
from snn_policy.environments import EnvironmentSource
from snn_policy.offline.td3bc_networks import FlatAdam, FlatParameters
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.settings import DEFAULT_TOLERANCE

BLOCK_STEPS = 100
"""Steps between two profiles; pruning, DAgger, judging and checkpoints come between two blocks."""
FIRST_WEIGHT, LEAST_WEIGHT, MOST_WEIGHT = 30.0, 3.0, 40.0
WEIGHT_GAIN = 0.5
"""λ changes by this power of the energy over what it may be, every block."""
ENOUGH = 0.99
"""Retention at which a student of a wanted energy is good enough to stop."""
MARGIN = 0.98
"""Of a wanted energy that is aimed at: open-loop estimates are that exact."""
CORRECTIONS = 0.2, 5.0
MOST_SCALE = 20.0
"""By which s may change at once; at least by `States.least_scale`."""
USUAL_ENERGY = 0.1
"""Of a converted teacher that sees vectors; where pictures stand still for the most part, a spike weighs more."""
LEAST_ENERGY = 1e-6
MOST_SPIKE_UNIT = USUAL_ENERGY / LEAST_ENERGY
DAGGER_SEED, JUDGE_SEED, CONVERSION_SEED = 1_000_000, 2_000_000, 3_000_000


@dataclass
class Kept:
    """Hold the best student so far: its flat parameters and masks, and its verdict."""

    values: Tensor
    masks: list[Tensor]
    verdict: Verdict
    step: int


@dataclass
class Progress:
    """Hold what a run knows of itself beside its arrays; plain data, stored in checkpoints.

    Attributes:
        weight: λ; `scale`: s, the converted student's quanta in those that the tolerance alone would give;
            `correction`: its energy over the expected one.
        energy, error: expected energy and RMS action error at the latest profile.
        retries: students in a row that failed at the present goal.
        added: how often the student's states were added.
        spike_unit: by this λ is multiplied; 1 but for pictures.
        closed_loop: the latest judged episodes' energy over that of their conversion, open loop.
    """

    step: int = 0
    weight: float = FIRST_WEIGHT
    scale: float = 1.0
    correction: float = 1.0
    energy: float = 0.0
    error: float = 0.0
    begin: int = 0
    end: int = 0
    above: float = 0.0
    goal: float = 0.0
    retries: int = 0
    added: int = 0
    spike_unit: float = 1.0
    closed_loop: float = 1.0
    finished: bool = False
    verdicts: list[dict[str, Any]] = field(default_factory=list)


class Distillation:
    """Train one student. Deterministic, given one torch thread.

    Args:
        teacher: not changed.
        states: the teacher's recording; the student's states are added to it.
        env: None: no DAgger, no judging, noise instead.
    """

    def __init__(
        self, teacher: Actor, states: States, settings: CompressionSettings, env: EnvironmentSource | None
    ) -> None:
        self.teacher, self.states, self.settings, self.env = teacher, states, settings, env
        self.student = Student(teacher, settings.seed)
        self.parameters = FlatParameters(self.student)
        self.optimiser = FlatAdam(self.parameters, settings.learning_rate)
        self.progress, self.kept = Progress(), None
        self._count = COUNTS[settings.count]
        self._error_unit = settings.tolerance or DEFAULT_TOLERANCE
        self._dense = float(nanojoules(teacher.dense_macs, 0) / nanojoules(0, 1))
        self._judge = None if env is None else Judge(teacher, env, JUDGE_SEED + settings.seed, states.judged)

    kept: Kept | None

    def run_block(self) -> None:
        """Take the next hundred steps (fewer at the end), and do what is due after them."""
        now, settings = self.progress, self.settings
        rng = np.random.default_rng([settings.seed, now.step])
        if now.step == 0:
            self._begin_first_stretch()
        found = self._profile(rng)
        stretch = plan.Stretch(now.begin, now.end, now.above, now.goal)
        self._tighten(found, stretch, rng)
        rows = rng.integers(1, len(self.states), (BLOCK_STEPS, settings.batch))
        noise = None if self.env is not None else self.states.noise(rng, rows.shape)
        fan_out, until = self.student.fan_out, min(now.step + BLOCK_STEPS, now.end)
        for index in range(until - now.step):
            self.optimiser.learning_rate = settings.learning_rate * stretch.rate(now.step)
            self._step(torch.from_numpy(rows[index]), None if noise is None else noise[index], found, fan_out)
            now.step += 1
        self._after_block()

    def _step(self, rows: Tensor, noise: np.ndarray | None, found: Profile, fan_out: list[Tensor]) -> None:
        inputs, wanted = self.states.batch(rows, noise)
        hidden, y = self.student(inputs)
        loss = (self.states.error.action(y) - wanted).square().mean() / self._error_unit**2
        weight = self.progress.weight * self.progress.spike_unit / self.teacher.dense_macs
        for stage, h in enumerate(hidden, 1):
            before, now = h.split(len(rows))
            size = (now - found.gamma[stage] * before).abs() * found.precision[stage]
            loss = loss + weight * (self._count(size).mean(0) @ fan_out[stage])
        loss.backward()
        self.optimiser.step()
        self.student.apply_mask()

    def _profile(self, rng: np.random.Generator) -> Profile:
        states = self.states
        rows = torch.from_numpy(rng.integers(1, len(states), states.profiled))
        before, now = states.inputs_at(rows - 1), states.inputs_at(rows)
        found = profile(self.student, states.error, before, now, states.offset, self._quanta, self._count)
        with torch.no_grad():
            difference = states.error.action(self.student(now)[1]) - states.actions[rows]
        self.progress.error = float(difference.square().mean().sqrt())
        self.progress.energy = operations(self.student, found.rate) / self._dense * self.progress.correction
        return found

    @property
    def _quanta(self) -> float:
        """Return s·tolerance, the common factor of the quanta."""
        return self.progress.scale * self.tolerance

    @property
    def tolerance(self) -> float:
        """Return what the student is trained for now: the given tolerance, or what suits its own error."""
        given = self.settings.tolerance
        return own_tolerance(self.progress.error) if given is None else given

    def _tighten(self, found: Profile, stretch: plan.Stretch, rng: np.random.Generator) -> None:
        """Prune to what the plan allows; where nothing is pruned any more, let the spikes' weight keep the energy.

        Of pictures it does so from the start: most of them stand still, and few spikes are there to be saved.
        """
        now = self.progress
        allowed = stretch.energy(now.step) * MARGIN
        if stretch.pruning(now.step):
            rows = torch.from_numpy(rng.integers(1, len(self.states), self.states.profiled // 4))
            with torch.no_grad():
                slope = self.states.error.derivative(self.student(self.states.inputs_at(rows))[1])
            slope = slope.square().sum(1).mean(0).sqrt()
            prune(self.student, found, slope, self.settings.block, allowed / now.correction * self._dense)
        if not stretch.pruning(now.step) or self.states.quiet:
            change = (now.energy / allowed) ** WEIGHT_GAIN
            now.weight = float(np.clip(now.weight * change, LEAST_WEIGHT, MOST_WEIGHT))

    def _begin_first_stretch(self) -> None:
        """Begin at the energy of the converted teacher, which a copy has, too."""
        now, target, steps = self.progress, self.settings.target, self.settings.steps
        found = conversion(self.teacher, self.teacher, self._conversion_states(), self.tolerance)
        now.above = found.energy
        if self.states.quiet:
            now.spike_unit = max(1.0, USUAL_ENERGY / max(now.above, LEAST_ENERGY))
        if self.student.copied:
            self._learn_from(found)
        share = (
            1.0 if self.env is None else plan.FIRST_STRETCH[target.kind]
        )  # with nothing to judge there is one stretch
        length = plan.stretch_length(share, steps, BLOCK_STEPS)
        now.begin, now.end = 0, min(steps, length)
        now.goal = min(target.value, now.above) if target.kind == "energy" else plan.FIRST_SHARE * now.above

    def _after_block(self) -> None:
        now, steps = self.progress, self.settings.steps
        over = now.step >= now.end
        due = self.env is not None and now.added < ADDITIONS and now.step * ADD_EVERY >= steps * (now.added + 1)
        if not (over or (due and self.settings.added)):
            return
        if due and self.settings.added and now.step < steps:
            self._add_states(self.converted().policy)
        if over:
            self._judge_student()
        else:
            self._learn_from(self.converted())

    def _conversion_states(self) -> np.ndarray:
        return self.states.observations[self.states.conversion_rows.numpy()]

    def _learn_from(self, found: Conversion) -> None:
        """Take the quanta from the converted student, and how its energy there differs from the expected."""
        states = self.states
        indices = states.conversion_rows[1:]
        if states.quiet:
            indices = indices[:: -(-len(indices) // states.profiled)]
        before, after = states.inputs_at(indices - 1), states.inputs_at(indices)

        def measured() -> Profile:
            return profile(self.student, states.error, before, after, states.offset, self._quanta, self._count)

        now, quanta = self.progress, torch.from_numpy(found.policy.network.neurons.quanta[0])  # pyright: ignore
        change = float((quanta * measured().precision[0]).median())
        now.scale *= float(np.clip(change, states.least_scale, MOST_SCALE))
        expected = operations(self.student, measured().rate) / self._dense
        now.correction = float(np.clip(found.energy * now.closed_loop / max(expected, 1e-12), *CORRECTIONS))

    def _add_states(self, policy: SpikingPolicy) -> None:
        """Add the converted student's own episodes, and what the teacher does there (DAgger)."""
        assert self.env is not None
        seed = DAGGER_SEED + 1_000 * (self.settings.seed % 1_000) + 100_000_000 * self.progress.added
        episodes = spiking_episodes(policy, self.env, seed)
        try:
            self.states.add(np.stack([next(episodes) for _ in range(self.settings.added)]))
        finally:
            episodes.close()
        self.progress.added += 1

    def converted(self) -> Conversion:
        """Return the present student as the spiking policy that `convert` makes of it."""
        return conversion(self.student.actor(), self.teacher, self._conversion_states(), self.tolerance)

    def _own_states(self, student: Actor) -> np.ndarray:
        """Return what `convert(student, student.collect(env))` will see, so that what is judged is what users get.

        Of a recording alone, and of pictures, which have to be drawn, the states that it was trained on.
        """
        if self.env is None or self.states.quiet:
            return self._conversion_states()
        return student.collect(self.env)

    def _fitted(self) -> tuple[Conversion, float]:
        """Learn from the conversion that users get; return the one that is judged, and the student's error there.

        Of the given tolerance, or of one that meets the wanted energy.
        """
        now, student = self.progress, self.student.actor()
        rows = self._own_states(student)

        @cache  # the tolerance that is trained for is often the finest that is tried
        def of(tolerance: float) -> Conversion:
            return conversion(student, self.teacher, rows, tolerance)

        found = of(self.tolerance)
        self._learn_from(found)
        if self.settings.tolerance is None:
            worth = tolerances_worth_having(now.error, spending=self.settings.target.kind == "energy")
            found = finest_conversion(of, worth, now.goal * MARGIN / now.closed_loop)
        if self.env is None and not self.states.quiet:  # users convert on all of their recording
            rows = self.states.observations
            found = conversion(student, self.teacher, rows, found.tolerance)
        return found, self.states.error_of(student, rows)

    def _judge_student(self) -> None:
        """Keep the student at a stretch's end if it is the best so far, and set out the next stretch or stop."""
        now, target = self.progress, self.settings.target
        found, error = self._fitted()
        wanted = target.value if target.kind == "retention" else ENOUGH
        verdict = Verdict(found.energy) if self._judge is None else self._judge.verdict(found.policy, wanted)
        verdict = replace(verdict, tolerance=found.tolerance, error=error)
        before, now.closed_loop = now.closed_loop, float(np.clip(verdict.energy / found.energy, *CORRECTIONS))
        now.correction = float(np.clip(now.correction * now.closed_loop / before, *CORRECTIONS))
        now.verdicts.append({"step": now.step, "density": self.student.density, **verdict.as_dict()})
        if self._better(verdict):
            masks = [kept.clone() for kept in self.student.kept]
            self.kept = Kept(self.parameters.values.clone(), masks, verdict, now.step)
        passed = self._passes(verdict)
        now.retries = 0 if passed else now.retries + 1
        left, retention = self.settings.steps - now.step, target.kind == "retention"
        if left < BLOCK_STEPS or (now.retries > 1 if retention else passed):
            now.finished = True
            return
        length = plan.stretch_length(plan.NEXT_STRETCH[target.kind], self.settings.steps, BLOCK_STEPS)
        now.begin, now.end, now.above = now.step, now.step + min(left, length), now.energy
        now.goal = now.goal * plan.NEXT_SHARE if passed and retention else now.goal

    def _passes(self, verdict: Verdict) -> bool:
        """Return whether the student has all that is wanted; where steps are left, beyond doubt."""
        if self.settings.target.kind == "retention":
            return verdict.passes(self.settings.target.value)
        enough = verdict.passes(ENOUGH) and verdict.lower_bound >= ENOUGH
        return enough and verdict.needs_at_most(self.settings.target.value)

    def _better(self, verdict: Verdict) -> bool:
        return self.kept is None or self._rank(verdict) > self._rank(self.kept.verdict)

    def _rank(self, verdict: Verdict) -> tuple[bool, float]:
        """Rank by what is not the target among those that reach it, else by nearness to it; the highest is best."""
        target = self.settings.target
        if target.kind == "energy":
            reached = verdict.needs_at_most(target.value)
            return reached, verdict.lower_bound if reached else -verdict.energy
        reached = verdict.passes(target.value)
        return reached, -verdict.energy if reached else verdict.lower_bound
