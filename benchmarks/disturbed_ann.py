"""Why spiking sometimes helps: what a spiking policy does to actions, each part of it alone added to the ANN.

a_k: the ANN's action in half-ranges, or the last layer's values in half their spread where it is discrete. Acted on is

    hysteresis   the action held until one entry has moved by δ; a discrete choice until another is better by δ
    dither       a_k + size · n_k, n_k white Gaussian, size the RMS error of a conversion on the same observations
    delay        a_{k−1}
    clipping     the action with every hidden neuron clipped at a quantile of what it was on the recording

A part has one or two strengths, chosen per actor by the mean return on the choice's seeds, which flatters it. Episodes
begin in wider states than usual, so that the ANN fails in some of them: elsewhere nothing could help.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.studied_actors import (
    CHOICE_SEED,
    REPORT_SEED,
    Make,
    Returns,
    environment_of,
    integrate_and_fire,
    recorded,
    relative,
)
from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.analysis.last_values import Decider
from snn_policy.calibration.action_units import error_unit
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import error_of_mean, failed_share, failures
from snn_policy.observations import EnvironmentRow
from snn_policy.protocol import FloatArray

ACTORS = {
    "td3-Pendulum-v1": None,
    "sac-MountainCarContinuous-v0": None,
    "dqn-CartPole-v1": 0.15,
    "ppo-Hopper-v3": 0.05,
    "sac-Walker2d-v3": 0.05,
    "td3-Hopper-v5": 0.05,
    "sac-Pendulum-v1": None,
    "trpo-Hopper-v3.zip": 0.05,
}
"""Spread of the states that episodes begin in; None: the environment's own."""
PARTS = ("hysteresis", "dither", "delay", "clipping")
DELTAS, QUANTILES = (0.02, 0.1), (1.0, 0.99)
LEAST = 0.005
"""Share of the return below which a difference is none, however certain."""
CHOICE_EPISODES, REPORT_EPISODES, ROWS = 20, 200, 20
Values = np.ndarray


@dataclass(frozen=True)
class Part:
    """Hold one alteration and its strength: δ, size, decisions or quantile; of "none" it means nothing."""

    kind: str = "none"
    strength: float = 0.0


class Altered:
    """Decide for several rows as the ANN does, altered; every row's memory is its own.

    Args:
        unit: (m,) of the values' disturbances.
        bounds: (neurons,) per hidden layer, where it clips.
    """

    def __init__(self, actor: Actor, part: Part, unit: Values, bounds: list[Values] | None, rows: int) -> None:
        self.actor, self.part, self.unit, self.bounds = actor, part, unit, bounds
        self.held = np.full((rows, len(unit)), np.nan)
        self.random = [np.random.default_rng(0) for _ in range(rows)]

    def begin(self, row: int, seed: int) -> None:
        """Forget a row, and start its noise with this seed."""
        self.held[row], self.random[row] = np.nan, np.random.default_rng(seed)

    def act(self, obs: FloatArray) -> Values:
        """Return the actions of (rows, *shape) observations."""
        values = alter_values(self, values_of(self.actor, obs, self.bounds))
        head = self.actor.head
        return head(values.astype(np.float32)) if head.discrete else np.clip(values, head.low, head.high)


def alter_values(acting: Altered, values: Values) -> Values:
    """Return what is acted on instead of the ANN's values (rows, m), and remember what the next decision needs."""
    kind, strength, unit = acting.part.kind, acting.part.strength, acting.unit
    fresh = np.isnan(acting.held[:, :1])
    if kind == "dither":
        noise = np.stack([random.normal(0.0, strength, len(unit)) for random in acting.random])
        return values + unit * noise
    if kind == "delay":
        late = np.where(fresh, values, acting.held)
        acting.held = values
        return late
    if kind == "hysteresis" and acting.actor.discrete:
        favoured = values + np.where(fresh, 0.0, acting.held) * strength * unit
        acting.held = np.eye(len(unit))[favoured.argmax(axis=1)]
        return favoured
    if kind == "hysteresis":
        moved = (abs(values - acting.held) / unit > strength).any(axis=1, keepdims=True)
        acting.held = np.where(fresh | moved, values, acting.held)
        return acting.held
    return values


def values_of(actor: Actor, obs: FloatArray, bounds: list[Values] | None = None) -> Values:
    """Return the ANN's actions (rows, m) or last layer's values, its hidden neurons clipped at ±bounds."""
    x = actor.inputs(obs)
    for index, layer in enumerate(actor.hidden):
        x = layer(x) if layer.activation is None else layer.activation(layer(x))
        x = x if bounds is None else np.clip(x, -bounds[index], bounds[index])
    y = actor.layers[-1](x)
    return np.asarray(y if actor.discrete else actor.head(y), np.float64)


def returns_of(actor: Actor, part: Part, setting: Mapping[str, Any], make: Make, episodes: int, seed: int) -> Returns:
    """Return the returns of whole episodes, (episodes,); episode i has seed + i."""
    rows = min(ROWS, episodes)
    bounds = setting["bounds"](part.strength) if part.kind == "clipping" else None
    acting = Altered(actor, part, setting["unit"], bounds, rows)
    made = [make() for _ in range(rows)]
    envs = [EnvironmentRow(env, actor.observation_shape) for env in made]
    totals, running, following = np.zeros(episodes), list(range(rows)), rows
    obs = np.stack([env.reset(seed + row) for row, env in enumerate(envs)])
    for row in range(rows):
        acting.begin(row, seed + row)
    episode = list(range(rows))
    while running:
        actions = acting.act(obs)
        for row in list(running):
            action = actions[row] if actor.discrete else actions[row].astype(np.float32)
            obs[row], reward, terminated, truncated = envs[row].step(action)
            totals[episode[row]] += reward
            if terminated or truncated:
                if following == episodes:
                    running.remove(row)
                    continue
                episode[row], following = following, following + 1
                obs[row] = envs[row].reset(seed + episode[row])
                acting.begin(row, seed + episode[row])
    for env in made:
        env.close()
    return totals


def measured(name: str, episodes: int = REPORT_EPISODES) -> dict[str, Any]:
    """Return the returns of the ANN, of its conversion, and of the ANN with each part at its chosen strength."""
    actor, observations = recorded(name)
    make, policy = environment_of(actor, ACTORS.get(name)), convert(actor, observations)
    hidden = actor.activations(observations)[0][1:]
    setting = {
        "unit": error_unit(actor, actor.activations(observations)[1]),
        "bounds": lambda quantile: [np.quantile(abs(h), quantile, axis=0).astype(np.float32) for h in hidden],
    }
    sizes = [rms_error(policy, actor, observations, setting["unit"])]
    if all(layer.activation is not None and layer.activation.name == "relu" for layer in actor.hidden):
        sizes.append(rms_error(integrate_and_fire(name), actor, observations, setting["unit"]))
    strengths = {"hysteresis": DELTAS, "dither": sizes, "delay": (1.0,), "clipping": QUANTILES}
    chosen = {}
    for kind, values in strengths.items():
        tried = {
            value: returns_of(actor, Part(kind, value), setting, make, CHOICE_EPISODES, CHOICE_SEED).mean()
            for value in (values if len(values) > 1 else ())
        }
        chosen[kind] = max(tried, key=lambda value: tried[value]) if tried else values[0]
    ann = returns_of(actor, Part(), setting, make, episodes, REPORT_SEED)
    spiking = evaluate(policy, make, episodes=episodes, seed=REPORT_SEED, num_envs=min(ROWS, episodes)).returns
    parts = {
        kind: list(returns_of(actor, Part(kind, value), setting, make, episodes, REPORT_SEED))
        for kind, value in chosen.items()
    }
    return {"strengths": chosen, "sizes": sizes, "ann": list(ann), "returns": {"snn": list(spiking), **parts}}


def rms_error(policy: SpikingPolicy, actor: Actor, observations: FloatArray, unit: Values) -> float:
    """Return the RMS error of a conversion's values along a recording, in units."""
    snn, state, errors = Decider(policy, actor), None, []
    state = snn.initial_state()
    for obs in observations[:1000]:
        decided = snn(obs, state)
        state = decided.state
        ann = values_of(actor, obs[None])[0]
        errors.append((decided.values - (ann - ann.mean() if actor.discrete else ann)) / unit)
    return float(np.sqrt(np.mean(np.square(errors))))


def judged(record: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return an alteration's share of the ANN's return, its failures, and whether it helps or harms.

    The share's interval leaves out 1, and its mean is `LEAST` away; or failures differ by two standard errors.
    """
    ann, own = np.array(record["ann"]), np.array(record["returns"][what])
    found = relative(own, ann)
    found["failed"] = failed_share(own, ann)
    changed = failures(own, ann).astype(float) - failures(ann, ann)
    margin = 2 * error_of_mean(changed)
    low, high = found["interval"]
    found["helps"] = bool((low > 1 and found["mean"] > 1 + LEAST) or changed.mean() < -margin)
    found["harms"] = bool((high < 1 and found["mean"] < 1 - LEAST) or changed.mean() > margin)
    return found


def table(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table: share of the ANN's return and failed episodes, per actor and part."""
    columns = ("snn", *PARTS)
    rows = [f"| actor (ANN fails) | default neuron | {' | '.join(PARTS)} |", "|---" * (1 + len(columns)) + "|"]
    verdicts: dict[str, list[dict[str, Any]]] = {what: [] for what in columns}
    for name, record in records.items():
        cells = []
        for what in columns:
            found = judged(record, what)
            verdicts[what].append(found)
            mark = "+" * found["helps"] + "−" * found["harms"]
            low, high = found["interval"]
            strength = f"{record['strengths'][what]:.2g}: " if what in record["strengths"] else ""
            cells.append(f"{strength}{found['mean']:.3f} ({low:.3f} … {high:.3f}) / {found['failed']:.3f} {mark}")
        rows.append(f"| {name} ({failed_share(record['ann'], record['ann']):.3f}) | {' | '.join(cells)} |")
    counts = [f"{sum(v['helps'] for v in found)} / {sum(v['harms'] for v in found)}" for found in verdicts.values()]
    return [*rows, f"| helps / harms, of {len(records)} actors | {' | '.join(counts)} |"]
