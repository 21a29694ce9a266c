"""Error amplification where an agent does not see everything, and where it is not alone.

Partly observed: the shipped GRU and LSTM policies of tasks without velocities, and actors that see velocities turned
into actors that see stacked positions. In MountainCar a velocity is the difference of two positions, in CartPole that
of the decision before, so the first layer's weights are rewritten: w'_now = w_position + w_velocity/Δ, w'_before =
−w_velocity/Δ. The network is otherwise the same as the one that sees everything, which is measured beside it.

Two agents: `examples/two_agents.py`, the returns of all four combinations of ANN and spiking policy.
"""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

from benchmarks.neuron_study import read
from benchmarks.places import ROOT
from benchmarks.studied_actors import REPORT_SEED, Make, relative
from examples.hidden_velocities import MAKERS, MaskVelocity
from examples.two_agents import AGENTS, CoupledPendulums
from snn_policy import IF, Actor, SigmaDelta, SpikingPolicy, convert, load_actor
from snn_policy.analysis import decomposition, record_traces, residual_cosines
from snn_policy.ann.layers import Linear
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.protocol import Policy
from snn_policy.wrappers import SpikingPolicyParallelEval

TRAINED = ROOT / "examples" / "trained"
RECORDED, TRACES, WALKS, WALKED = 3_000, 10, 4, 200
LIMIT, STIFFNESS = 200, 1.0
CONVERSIONS: dict[str, Callable[[], Any]] = {
    "sigma-delta α=0": lambda: SigmaDelta(0.05, alpha=0.0),
    "sigma-delta α=0.5": lambda: SigmaDelta(0.05, alpha=0.5),
    "sigma-delta α=1": lambda: SigmaDelta(0.05, alpha=1.0),
    "IF T=8 α=0": lambda: IF(timesteps=8, threshold="max", alpha=0.0),
    "IF T=8 α=0.3": lambda: IF(timesteps=8, threshold="max", alpha=0.3),
    "IF T=8 α=1": lambda: IF(timesteps=8, threshold="max", alpha=1.0),
}
CARTPOLE_STEP = 0.02
"""Seconds."""


def stacked(make: Make, kept: tuple[int, ...]) -> Make:
    """Return what makes the environment whose observations are two frames of these entries, the older first."""

    def make_stacked() -> gym.Env:
        frames = FrameStackObservation(MaskVelocity(make(), kept), 2, padding_type="reset")
        return FlattenObservation(frames)

    return make_stacked


def seeing_frames(actor: Actor, positions: tuple[int, ...], velocities: tuple[int, ...], step: float) -> Actor:
    """Return the same network for two frames of positions, the older first, `step` apart."""
    first = actor.layers[0]
    assert isinstance(first, Linear)
    assert actor.normaliser is None
    slopes = first.weight[:, velocities] / np.float32(step)
    weight = np.concatenate([-slopes, first.weight[:, positions] + slopes], axis=1)
    layers = (Linear(weight, first.bias, first.activation), *actor.layers[1:])
    return Actor(layers, actor.head, (weight.shape[1],), name=f"{actor.name}, two frames")


def trained(name: str) -> tuple[Actor, Make]:
    """Return a shipped recurrent actor and its environment without velocities."""
    actor = load_actor(TRAINED / name)
    return actor, lambda: gym.wrappers.TimeLimit(MAKERS[str(actor.env_id)](), LIMIT)


def full(name: str) -> tuple[Actor, Make]:
    """Return an actor that sees everything, and its environment."""
    actor = read(name)
    limit = None if "Mountain" in name else LIMIT
    return actor, lambda: gym.make(str(actor.env_id), max_episode_steps=limit, disable_env_checker=True)


def frames(name: str, positions: tuple[int, ...], velocities: tuple[int, ...], step: float) -> tuple[Actor, Make]:
    """Return that actor for two frames of positions, and the environment that gives them."""
    actor, make = full(name)
    return seeing_frames(actor, positions, velocities, step), stacked(make, positions)


CAR, POLE = "sac-MountainCarContinuous-v0", "dqn-CartPole-v1"
TASKS: dict[str, Callable[[], tuple[Actor, Make]]] = {
    "gru-Pendulum without velocity": lambda: trained("gru-Pendulum-NoVelocity-v1"),
    "td3-Pendulum sees all": lambda: full("td3-Pendulum-v1"),
    "lstm-CartPole without velocities": lambda: trained("lstm-CartPole-NoVelocity-v1"),
    "dqn-CartPole two frames": lambda: frames(POLE, (0, 2), (1, 3), CARTPOLE_STEP),
    "dqn-CartPole sees all": lambda: full(POLE),
    "sac-MountainCar two frames": lambda: frames(CAR, (0,), (1,), 1.0),
    "sac-MountainCar sees all": lambda: full(CAR),
}
"""What gives an actor and its environment, by name."""


def measured(name: str, episodes: int = 50) -> dict[str, Any]:
    """Return by conversion: share of the ANN's return, errors' consistency and size, and what the loss is made of."""
    actor, make = TASKS[name]()
    recording = actor.collect(make, steps=RECORDED, seed=0)
    rows = min(10, episodes)
    ann = np.array(evaluate(actor, make, episodes=episodes, seed=REPORT_SEED, num_envs=rows).returns)
    found: dict[str, Any] = {"ann": {"mean": float(ann.mean()), "failed": relative(ann, ann)["failed"]}}
    for conversion, neuron in CONVERSIONS.items():
        if conversion.startswith("IF") and (actor.recurrent or not actor.graph.is_chain):
            continue
        policy = convert(actor, recording, neuron=neuron())
        own = np.array(evaluate(policy, make, episodes=episodes, seed=REPORT_SEED, num_envs=rows).returns)
        found[conversion] = {"return": relative(own, ann), **directions(actor, policy, make)}
    return found


def directions(actor: Actor, policy: SpikingPolicy, make: Make) -> dict[str, Any]:
    """Return consistency of errors, cosine of residuals, RMS error, and the two main parts of the loss."""
    traces = record_traces(policy, actor, make, episodes=TRACES, seed=REPORT_SEED)
    cosines = residual_cosines(policy, traces)
    parts = decomposition(actor, policy, make, WALKS, REPORT_SEED, decisions=WALKED).summary
    return {
        "consistency": cosines.by_lag["errors"][1].as_dict(),
        "residual": cosines.summary["all"].as_dict(),
        "error": float(np.sqrt(np.mean(np.concatenate([trace.errors for trace in traces]) ** 2))),
        "policy": parts["policy"].as_dict(),
        "states": parts["states"].as_dict(),
    }


def measured_pair(name: str, episodes: int = 50) -> dict[str, Any]:
    """Return, by conversion of td3-Pendulum, what each agent keeps where it, its partner, or both of them spike.

    Args:
        name: the spring's stiffness.
    """
    actor, stiffness = read("td3-Pendulum-v1"), float(name)
    recording = actor.collect("Pendulum-v1", steps=RECORDED, seed=0)
    ann, _ = pair_returns((actor, actor), stiffness, episodes)
    found: dict[str, Any] = {"ann": {"mean": float(ann.mean())}}
    for conversion, neuron in CONVERSIONS.items():
        policy = convert(actor, recording, neuron=neuron())
        own, partner = pair_returns((policy, actor), stiffness, episodes)[0].T
        both, cosines = pair_returns((policy, policy), stiffness, episodes)
        found[conversion] = {
            "own": relative(own, ann[:, 0]),
            "partner": relative(partner, ann[:, 1]),
            "both": relative(both.mean(axis=1), ann.mean(axis=1)),
            "consistency": cosines,
        }
    return found


def pair_returns(policies: tuple[Policy, Policy], stiffness: float, episodes: int) -> tuple[np.ndarray, float | None]:
    """Return the returns, (episodes, agents), and the mean cosine of consecutive errors of the agents that spike."""
    env = SpikingPolicyParallelEval(CoupledPendulums(stiffness), dict(zip(AGENTS, policies, strict=True)))
    totals, products = np.zeros((episodes, len(AGENTS))), []
    for episode in range(episodes):
        observations, _ = env.reset(seed=REPORT_SEED + episode)
        errors: list[list[float]] = []
        while env.agents:
            actions = env.act(observations)
            errors.append([error_of(policy, actions[agent], observations[agent])
                           for agent, policy in zip(AGENTS, policies, strict=True)])  # fmt: skip
            observations, rewards, *_ = env.step(actions)
            totals[episode] += [rewards[agent] for agent in AGENTS]
        signs = np.sign(np.array(errors))
        products.append((signs[1:] * signs[:-1])[(signs[1:] != 0) & (signs[:-1] != 0)])
    known = np.concatenate(products)
    return totals, float(known.mean()) if len(known) else None


def error_of(policy: Policy, action: np.ndarray, obs: np.ndarray) -> float:
    """Return the action's distance from the ANN's, of which the cosine with another is the product of their signs."""
    return float(action[0] - policy.actor.step(obs, ())[0][0]) if isinstance(policy, SpikingPolicy) else 0.0


def table(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table of partly observed tasks."""
    heads = "share of the return / failed | consistency | residual cosine | error | policy % | states %"
    rows = [f"| task (ANN fails) | conversion | {heads} |", "|---" * 8 + "|"]
    for name, record in records.items():
        for conversion, one in record.items():
            if conversion == "ann":
                continue
            figures = (one["consistency"]["mean"], one["residual"]["mean"], one["error"])
            parts = (one["policy"]["mean"], one["states"]["mean"])
            cells = [*(shown(figure, 2) for figure in figures), *(shown(part, 1) for part in parts)]
            task = f"{name} ({record['ann']['failed']:.2f})"
            rows.append(f"| {task} | {conversion} | {share(one['return'])} | {' | '.join(cells)} |")
    return rows


def pair_table(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table of two agents."""
    rows = [
        "| spring (episodes) | conversion | own, alone spiking | partner of it | both spike | consistency |",
        "|---" * 6 + "|",
    ]
    for stiffness, record in records.items():
        for conversion, one in record.items():
            if conversion != "ann":
                cells = [share(one[what]) for what in ("own", "partner", "both")]
                label = f"{stiffness} ({one['own']['episodes']})"
                rows.append(f"| {label} | {conversion} | {' | '.join(cells)} | {shown(one['consistency'], 2)} |")
    return rows


def share(one: Mapping[str, Any]) -> str:
    """Return a share with its interval and the failed episodes."""
    low, high = one["interval"]
    return f"{one['mean']:.3f} ({low:.3f} … {high:.3f}) / {one['failed']:.2f}"


def shown(value: float | None, digits: int) -> str:
    """Return a number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"
