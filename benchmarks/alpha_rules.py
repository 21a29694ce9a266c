"""Whether α can be had without a search: what rules say on a short run, and what that α returns on other seeds.

Rules: a constant; the pilot of `convert(alpha="pilot")`; where the cosine of consecutive action errors, or of
consecutive residuals, crosses zero along a grid of α; and the best of the short run's own returns. A crossing is
interpolated and taken to the nearest α of the grid; where a cosine is nowhere positive that is 0, where it is nowhere
negative 1.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.studied_actors import (
    CHOICE_SEED,
    REPORT_SEED,
    environment_of,
    integrate_and_fire,
    mean_of_actors,
    recorded,
    relative,
)
from snn_policy.analysis import record_traces, residual_cosines, with_alpha
from snn_policy.calibration.pilots import Pilot
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import error_of_mean, failed_share

GRID = (0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
ACTORS = (
    "td3-Pendulum-v1", "sac-MountainCarContinuous-v0", "td3-HalfCheetah-v5", "tqc-HalfCheetah-v3", "sac-Walker2d-v3",
    "td3-Hopper-v5", "dqn-CartPole-v1", "ppo-Hopper-v3", "sac-Pendulum-v1",
)  # fmt: skip
THREE = (0.0, 0.3, 0.8)
SHORT_EPISODES, REPORT_EPISODES = 4, 50
RULES = {
    "zero": "α = 0",
    "constant": "α = 0.3",
    "pilot": "pilot, 0.3 or 0.8",
    "consistency": "errors' cosine crosses 0",
    "residual": "residuals' cosine crosses 0",
    "three": "best of 0, 0.3, 0.8 on the short run",
    "search": "best of the grid on it",
}


def measured(name: str, episodes: int = REPORT_EPISODES, timesteps: int = 8) -> dict[str, Any]:
    """Return what every rule chooses for an actor, and the returns of the whole grid on the report's seeds."""
    actor, make = recorded(name)[0], environment_of(recorded(name)[0])
    policy = integrate_and_fire(name, timesteps, alpha=0.0)
    cosines: dict[str, dict[float, float]] = {"consistency": {}, "residual": {}, "search": {}}
    for alpha in GRID:
        variant = with_alpha(policy, alpha)
        traces = record_traces(variant, actor, make, episodes=SHORT_EPISODES, seed=CHOICE_SEED)
        found = residual_cosines(variant, traces)
        cosines["consistency"][alpha] = found.by_lag["errors"][1].mean
        cosines["residual"][alpha] = found.summary["all"].mean
        cosines["search"][alpha] = float(np.mean([trace.rewards.sum() for trace in traces]))
    pilot = Pilot(seed=CHOICE_SEED, report_episodes=0)
    piloted = integrate_and_fire(name, timesteps, alpha="pilot", env=make, pilot=pilot).conversion["alpha"]
    chosen = {
        "zero": 0.0,
        "constant": 0.3,
        "pilot": float(np.mean(piloted)),
        "consistency": crossing(cosines["consistency"]),
        "residual": crossing(cosines["residual"]),
        "search": max(GRID, key=lambda alpha: cosines["search"][alpha]),
    }
    returns = {
        str(alpha): list(evaluate(with_alpha(policy, alpha), make, episodes=episodes, seed=REPORT_SEED).returns)
        for alpha in GRID
    }
    ann = list(evaluate(actor, make, episodes=episodes, seed=REPORT_SEED).returns)
    short = {name: {str(alpha): value for alpha, value in values.items()} for name, values in cosines.items()}
    return {"short": short, "chosen": chosen, "ann": ann, "returns": returns}


def crossing(values: Mapping[float, float]) -> float:
    """Return the α of the grid nearest to the first place at which the values, of increasing α, reach zero from above.

    0 where the first is not above it, 1 where none is below; NaN (no errors at all) are left out.
    """
    known = [(alpha, value) for alpha, value in sorted(values.items()) if np.isfinite(value)]
    if not known or known[0][1] <= 0:
        return 0.0
    for (low, above), (high, below) in pairwise(known):
        if below <= 0:
            exact = low + (high - low) * above / (above - below)
            return min(GRID, key=lambda alpha: abs(alpha - exact))
    return 1.0


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """Return the best α of the grid on the report's seeds and what every rule keeps of its return."""
    returns = {float(alpha): np.array(values) for alpha, values in record["returns"].items()}
    best = max(returns, key=lambda alpha: returns[alpha].mean())
    short = record["short"]["search"]
    three = max(THREE, key=lambda alpha: short[str(alpha)])
    rules = {}
    for rule, alpha in {**record["chosen"], "three": three}.items():
        rules[rule] = {"alpha": alpha, **relative(returns[alpha], returns[best])}
        rules[rule]["failed"] = failed_share(returns[alpha], record["ann"])
    equal = [alpha for alpha, values in returns.items() if not_worse(values, returns[best])]
    return {"best": best, "equal": equal, "ann": relative(returns[best], np.array(record["ann"])), "rules": rules}


def not_worse(own: np.ndarray, best: np.ndarray) -> bool:
    """Tell whether an α's paired difference from the best holds 0 within two standard errors."""
    lost = best - own
    return bool(lost.mean() <= 2 * error_of_mean(lost))


def table(records: Mapping[str, dict[str, Any]], timesteps: int = 8) -> list[str]:
    """Return the lines of the table: per actor the best α, then per rule its α and its share of the best's return."""
    found = {name: judged(record) for name, record in records.items()}
    rows = [f"| IF T={timesteps} | best α (as good) | {' | '.join(RULES.values())} |", "|---" * (2 + len(RULES)) + "|"]
    for name, one in found.items():
        equal = ", ".join(f"{alpha:g}" for alpha in one["equal"])
        cells = [cell(one["rules"][rule]) for rule in RULES]
        rows.append(f"| {name} | {one['best']:g} ({equal}) | {' | '.join(cells)} |")
    means = [mean_of_actors(one["rules"][rule]["mean"] for one in found.values()) for rule in RULES]
    texts = [f"**{one['mean']:.3f}** ({one['interval'][0]:.3f} … {one['interval'][1]:.3f})" for one in means]
    hits = [sum(one["rules"][rule]["alpha"] in one["equal"] for one in found.values()) for rule in RULES]
    rows.append(f"| mean of {len(found)} actors | | {' | '.join(texts)} |")
    rows.append(f"| as good as the best | | {' | '.join(f'{hit} of {len(found)}' for hit in hits)} |")
    return rows


def cell(one: dict[str, Any]) -> str:
    """Return a rule's α, its share of the best return with the interval, and the failed episodes."""
    low, high = one["interval"]
    exact = low == high == one["mean"]
    interval = "" if exact else f" ({low:.3f} … {high:.3f})"
    return f"{one['alpha']:g}: {one['mean']:.3f}{interval} / {one['failed']:.2f}"
