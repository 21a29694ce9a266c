"""Measure which action errors a task forgives: a constant one, white and slow ones of the same power, at several gains.

The ANN acts in the environment, and its action a_k is disturbed before it is carried out:

    a_k ← centre + gain · (a_k − centre + size · half-range · n_k), within the action's bounds

n_k has mean square 1 in every kind: `bias` a random sign per entry, constant over the episode; `white` Gaussian;
`low_passed` n_k = ρ·n_{k−1} + √(1−ρ²)·w_k, w white; `alternating` a random sign per entry that changes with every
decision. What a kind costs is measured against `none` at the same gain and seed. Where actions are discrete, the values
of the last layer are disturbed, size in half their RMS spread, and there is only the gain 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.last_values import Decider
from snn_policy.analysis.replayed import make_restorable
from snn_policy.analysis.walks import Alter, Floats, ann_episode, check_episodes
from snn_policy.calibration.action_units import error_unit
from snn_policy.checks import require
from snn_policy.environments import EnvironmentSource
from snn_policy.observations import EnvironmentRow
from snn_policy.progress import counting

NONE = "none"
KINDS = ("bias", "white", "low_passed", "alternating")
GAINS = (0.5, 1.0, 1.5)
SIZE = 0.1
"""RMS of a disturbance, in half-ranges."""
_CODES = {NONE: 0, "bias": 1, "white": 2, "low_passed": 3, "alternating": 1}
"""Of the generators: a bias and what alternates have the same signs."""
Disturb = Callable[[int], Floats]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Hold rewards per decision, one array (decisions,) per episode, by (kind, gain); `none` is a kind, too.

    Attributes:
        size: RMS of every entry's disturbance, in half-ranges of the action.
    """

    size: float
    rewards: Mapping[tuple[str, float], tuple[Floats, ...]]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return per cent of the return lost, by "KIND@GAIN", as in "white@1.0"; negative where something is gained.

        A kind is compared with `none` at the same gain, `none` with the gain 1, in per cent of the mean return there.
        """
        returns = {case: np.array([rewards.sum() for rewards in found]) for case, found in self.rewards.items()}
        lost = {}
        for (kind, gain), found in returns.items():
            against = returns[NONE, 1.0 if kind == NONE else gain]
            size = abs(float(against.mean()))
            share = 100 * (against - found) / size if size else np.full(len(found), np.nan)
            lost[f"{kind}@{gain}"] = estimate(list(share[:, None]))
        return lost


def sensitivity(
    actor: Actor,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    size: float = SIZE,
    kinds: Sequence[str] = KINDS,
    gains: Sequence[float] = GAINS,
    smoothing: float = 0.9,
    decisions: int | None = None,
    progress: bool = False,
) -> Sensitivity:
    """Return what the ANN's episodes give under each disturbance.

    Args:
        size: RMS of every entry's disturbance, in half-ranges of the action.
        gains: all positive; 1 is always among them.
        smoothing: ρ of the low-passed kind, from 0 to below 1.
        decisions: after which an episode is left at the latest.

    Raises:
        ValueError: a kind, a gain or a size that is none, or an environment that does not fit the actor.
    """
    check_episodes(episodes, seed, decisions)
    require(set(kinds) <= set(KINDS), f"kinds {tuple(kinds)}: expected some of {', '.join(KINDS)}")
    require(all(0 < gain < np.inf for gain in gains), f"gains {tuple(gains)}: expected positive numbers")
    require(0 <= size < np.inf, f"size {size}: expected a number of at least 0")
    require(0 <= smoothing < 1, f"smoothing {smoothing}: expected a number from 0 to below 1")
    used = (1.0,) if actor.discrete else tuple(sorted({1.0, *map(float, gains)}))
    cases = [(NONE, 1.0), *((kind, gain) for gain in used for kind in (NONE, *kinds) if (kind, gain) != (NONE, 1.0))]
    ann, unit, rewards = Decider(actor, actor), None, dict[tuple[str, float], tuple[Floats, ...]]()
    environment = make_restorable(env, actor)
    try:
        row = EnvironmentRow(environment, actor.observation_shape)
        with counting("disturbing", len(cases) * episodes, progress) as advance:
            for kind, gain in cases:
                found: list[tuple[Floats, Floats]] = []
                for number in range(seed, seed + episodes):
                    disturb = _disturbance(kind, size, smoothing, np.random.default_rng((number, _CODES[kind])))
                    alter = _plainly if unit is None else _altering(actor, ann, disturb, unit, gain)
                    found.append(ann_episode(row, ann, number, alter, decisions)[1:])
                    advance()
                if unit is None:
                    unit = error_unit(actor, np.concatenate([values for values, _ in found]).astype(np.float32))
                rewards[kind, gain] = tuple(got for _, got in found)
    finally:
        environment.close()
    return Sensitivity(size, rewards)


def _plainly(decision: int, action: Floats, values: Floats) -> object:
    return action


def _altering(actor: Actor, ann: Decider, disturb: Disturb, unit: Floats, gain: float) -> Alter:
    head = actor.head
    bounded = np.isfinite(head.low) & np.isfinite(head.high)
    centre = np.where(bounded, (np.where(bounded, head.low, 0.0) + np.where(bounded, head.high, 0.0)) / 2, 0.0)

    def alter(decision: int, action: Floats, values: Floats) -> object:
        disturbed = values + unit * disturb(len(values))
        if head.discrete:
            return ann.choose(disturbed)
        moved = centre + gain * (disturbed.reshape(head.action_shape) - centre)
        return np.clip(moved, head.low, head.high).astype(np.float32)

    return alter


def _disturbance(kind: str, size: float, smoothing: float, random: np.random.Generator) -> Disturb:
    """Return a source of the next disturbance, (m,), of RMS `size` per entry."""
    held: list[Floats] = []

    def signs(entries: int, flip: float) -> Floats:
        if not held:
            held.append(np.where(random.random(entries) < 0.5, -size, size))
        else:
            held[0] = flip * held[0]
        return held[0]

    def smooth(entries: int) -> Floats:
        fresh = random.normal(0.0, size, entries)
        if held:
            held[0] = smoothing * held[0] + np.sqrt(1 - smoothing**2) * fresh
        else:
            held.append(fresh)
        return held[0]

    sources: dict[str, Disturb] = {
        NONE: np.zeros,
        "bias": lambda entries: signs(entries, 1.0),
        "alternating": lambda entries: signs(entries, -1.0),
        "white": lambda entries: random.normal(0.0, size, entries),
        "low_passed": smooth,
    }
    return sources[kind]
