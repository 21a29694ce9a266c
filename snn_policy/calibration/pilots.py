"""Pilots: choose a conversion's tolerance and α by whole episodes, and report the choice on seeds it never saw.

Source: docs/methods.md §9 and §13. All candidates run the same seeds as the ANN, whose episodes are run once. The
record is plain data: the candidates, the episodes each took, why it was taken or left, and the report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.calibration.sequential_verdict import (
    BLOCK,
    BOUND,
    DEFAULT_DELTA,
    MOST_EPISODES,
    Verdict,
    judge,
)
from snn_policy.checks import number, require, whole
from snn_policy.errors import warn
from snn_policy.evaluation.statistics import error_of_mean, failed_share
from snn_policy.progress import spending
from snn_policy.protocol import Policy
from snn_policy.spiking.crpi import PILOT_ALPHAS, pilot_alpha
from snn_policy.spiking.settings import DEFAULT_SIGMA_DELTA_ALPHA, DEFAULT_TOLERANCE, PILOT, NeuronSettings, SigmaDelta

TOLERANCES = (0.05, 0.03, 0.02, 0.01, 0.005)
ALPHAS = (DEFAULT_SIGMA_DELTA_ALPHA, 0.0, 1.0)
ALPHA_EPISODES, CRPI_EPISODES = 40, 8
Returns = npt.NDArray[np.float64]
Make = Callable[[Any], Policy]
Converted = TypeVar("Converted", bound=Policy)


@dataclass(frozen=True)
class Pilot:
    """Set how a pilot tries candidates.

    Attributes:
        delta: the loss of mean return that is allowed, as a share of the ANN's mean's size, 0 to 1.
        episodes: at most, per candidate tolerance.
        seed: of the first episode of the choice; episode i has seed + i.
        report_seed: of the first episode of the report; the two ranges must not meet.
        report_episodes: of the report; 0: none.
    """

    delta: float = DEFAULT_DELTA
    episodes: int = MOST_EPISODES
    seed: int = 90_000
    report_seed: int = 95_000
    report_episodes: int = 100

    def __post_init__(self) -> None:
        require(0 <= number("delta", self.delta) <= 1, f"delta {self.delta!r}: expected a share from 0 to 1")
        fits = whole(self.episodes, BLOCK, MOST_EPISODES) and self.episodes % BLOCK == 0
        require(fits, f"episodes {self.episodes!r}: expected a multiple of {BLOCK} up to {MOST_EPISODES}")
        for name, value in (("seed", self.seed), ("report_seed", self.report_seed)):
            require(whole(value, 0, 2**31 - 1), f"{name} {value!r}: expected a whole number from 0 to {2**31 - 1}")
        fits = whole(self.report_episodes, 0, 100_000) and self.report_episodes != 1
        require(fits, f"report_episodes {self.report_episodes!r}: expected 0, or 2 and more")
        apart = self.seed + self.most <= self.report_seed or self.report_seed + self.report_episodes <= self.seed
        require(apart, f"report_seed {self.report_seed}: the report would see seeds of the choice, {self.seed}…")

    @property
    def most(self) -> int:
        """Return how many seeds the choice may see."""
        return max(self.episodes, ALPHA_EPISODES)


def asked_of_pilots(settings: NeuronSettings) -> list[str]:
    """Return which settings are left to pilots."""
    return [name for name in ("tolerance", "alpha") if getattr(settings, name, None) == PILOT]


def environment_for(actor: Actor, asked: Sequence[str], env: Any) -> Any:
    """Return the environment that the pilots of these arguments ask.

    Raises:
        ValueError: there is none.
    """
    known = env if env is not None else actor.env_id
    remedy = "give env=, set actor.env_id, or give a number"
    require(known is not None, f"{asked[0]} 'pilot': the actor's environment is not known (env_id); {remedy}")
    return known


class Episodes:
    """Run episodes of the candidates and, once, of the ANN, on the same seeds; count the environment's steps.

    Args:
        planned: episodes at most, for the step budget; a step limit that the environment does not declare is unknown.

    Raises:
        ValueError: an environment that cannot be made, or does not fit the actor.
    """

    def __init__(self, actor: Actor, env: Any, pilot: Pilot, planned: int, progress: bool) -> None:
        from snn_policy.environments import make_environment
        from snn_policy.observations import environment_name

        made = make_environment(env, actor)
        limit = getattr(made.spec, "max_episode_steps", None)
        self.environment = environment_name(made)
        made.close()
        self.actor, self.env, self.pilot, self.progress = actor, env, pilot, progress
        self.used, self.at_most = 0, planned * limit if limit else None
        self._ann: list[float] = []

    def returns(self, policy: Policy, seed: int, episodes: int, description: str) -> Returns:
        """Return what episodes from this seed on return, (episodes,)."""
        from snn_policy.evaluation.evaluate import evaluate

        with spending(f"{description}: environment steps", self.used, self.at_most, self.progress) as spend:
            found: list[float] = []
            while len(found) < episodes:
                block = min(BLOCK, episodes - len(found))
                evaluation = evaluate(policy, self.env, episodes=block, seed=seed + len(found))
                found += evaluation.returns
                self.used += sum(evaluation.lengths)
                spend(sum(evaluation.lengths))
        return np.array(found)

    def verdict(self, policy: Policy, description: str) -> Verdict:
        """Run blocks of episodes beside the ANN's until it is decided."""
        found = np.zeros(0)
        while True:
            seed = self.pilot.seed + len(found)
            if len(self._ann) == len(found):
                self._ann += self.returns(self.actor, seed, BLOCK, "ANN").tolist()
            found = np.append(found, self.returns(policy, seed, BLOCK, f"{description}, episode {len(found)}"))
            verdict = judge(self._ann[: len(found)], found, self.pilot.delta, self.pilot.episodes)
            if verdict.accepted is not None:
                return verdict

    def report(self, policy: Policy) -> dict[str, Any]:
        """Return what ANN and SNN do on seeds that no choice has seen."""
        seed, count = self.pilot.report_seed, self.pilot.report_episodes
        ann, snn = (
            self.returns(acting, seed, count, f"report, {name}")
            for acting, name in ((self.actor, "ANN"), (policy, "SNN"))
        )
        size = abs(float(ann.mean())) or 1.0
        losses = (ann - snn) / size
        return {
            "seeds": [seed, seed + count - 1],
            "episodes": count,
            "ann_mean": float(ann.mean()),
            "snn_mean": float(snn.mean()),
            "retention": 1.0 - float(losses.mean()),
            "standard_error": error_of_mean(losses),
            "ann_failed": failed_share(ann, ann),
            "snn_failed": failed_share(snn, ann),
        }


def run_pilots(
    actor: Actor, settings: NeuronSettings, make: Callable[[Any], Converted], env: Any, pilot: Pilot, progress: bool
) -> tuple[Converted, dict[str, Any]]:
    """Choose what the settings leave to pilots: α first, at the default tolerance, then the tolerance; then report.

    Args:
        make: a policy converted with given settings.

    Returns:
        What `make` makes of the settings that were chosen, and the record.
    """
    asked = asked_of_pilots(settings)
    episodes = Episodes(actor, environment_for(actor, asked, env), pilot, _planned(settings, asked, pilot), progress)
    choices: dict[str, Any] = {}
    if "alpha" in asked:
        choose = _sigma_delta_alpha if isinstance(settings, SigmaDelta) else _crpi_alpha
        settings, choices["alpha"] = choose(settings, make, episodes)  # pyright: ignore[reportArgumentType]
    if "tolerance" in asked:
        settings, choices["tolerance"] = _tolerance(settings, make, episodes)
    policy = make(settings)
    report = episodes.report(policy) if pilot.report_episodes else None
    record = {
        "environment": episodes.environment,
        "seed": pilot.seed,
        "delta": float(pilot.delta),
        **choices,
        "report": report,
        "steps": episodes.used,
        "steps_at_most": episodes.at_most,
    }
    return policy, record


def _planned(settings: NeuronSettings, asked: Sequence[str], pilot: Pilot) -> int:
    """Return the episodes at most: of the candidates, of the ANN beside the tolerances, and of the report."""
    alphas = len(ALPHAS) * ALPHA_EPISODES if isinstance(settings, SigmaDelta) else len(PILOT_ALPHAS) * CRPI_EPISODES
    tolerances = (len(TOLERANCES) + 1) * pilot.episodes
    return alphas * ("alpha" in asked) + tolerances * ("tolerance" in asked) + 2 * pilot.report_episodes


def _tolerance(settings: Any, make: Make, episodes: Episodes) -> tuple[Any, dict[str, Any]]:
    """Take the largest tolerance that the sequential test accepts; where it accepts none, the smallest."""
    tried: list[dict[str, Any]] = []
    for tolerance in TOLERANCES:
        candidate = replace(settings, tolerance=tolerance)
        verdict = episodes.verdict(make(candidate), f"tolerance {tolerance}")
        tried.append({"tolerance": tolerance, **verdict.as_dict()})
        if verdict.accepted:
            break
    chosen, accepted = tried[-1]["tolerance"], tried[-1]["accepted"]
    if not accepted:
        warn(
            f"tolerance 'pilot': no candidate keeps the ANN's return in {episodes.environment}; "
            f"the smallest, {chosen}, is taken. conversion['pilot'] says why",
        )
    return replace(settings, tolerance=chosen), {"candidates": tried, "chosen": chosen, "accepted": accepted}


def _sigma_delta_alpha(settings: SigmaDelta, make: Make, episodes: Episodes) -> tuple[SigmaDelta, dict[str, Any]]:
    """Take another α than the default only where it is better by more than 2.3 standard errors, paired."""
    free = settings.tolerance == PILOT
    trial = replace(settings, tolerance=DEFAULT_TOLERANCE) if free else settings
    found = {}
    for alpha in ALPHAS:
        policy = make(replace(trial, alpha=alpha))
        found[alpha] = episodes.returns(policy, episodes.pilot.seed, ALPHA_EPISODES, f"α = {alpha}")
    default = found[DEFAULT_SIGMA_DELTA_ALPHA]
    tried, chosen, most = [], DEFAULT_SIGMA_DELTA_ALPHA, 0.0
    for alpha, returns in found.items():
        gains = returns - default
        gain, error = float(gains.mean()), error_of_mean(gains)
        tried.append({"alpha": alpha, "episodes": len(returns), "mean": float(returns.mean()), "gain": gain,
                      "standard_error": error})  # fmt: skip
        if gain > max(BOUND * error, most):
            chosen, most = alpha, gain
    return replace(settings, alpha=chosen), {"candidates": tried, "chosen": chosen}


def _crpi_alpha(settings: Any, make: Make, episodes: Episodes) -> tuple[Any, dict[str, Any]]:
    tried: list[dict[str, Any]] = []

    def returns_at(alpha: float) -> Returns:
        policy = make(replace(settings, alpha=alpha))
        returns = episodes.returns(policy, episodes.pilot.seed, CRPI_EPISODES, f"trying α = {alpha}")
        tried.append({"alpha": alpha, "episodes": len(returns), "mean": float(returns.mean())})
        return returns

    chosen = pilot_alpha(returns_at)
    return replace(settings, alpha=chosen), {"candidates": tried, "chosen": chosen}
