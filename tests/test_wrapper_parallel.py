"""Several agents in one environment: a policy and a memory for each, never mixed, whoever comes and goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from examples import two_agents
from examples.two_agents import AGENTS, CoupledPendulums
from snn_policy import SpikingPolicy, convert, load_actor
from snn_policy.exported import path
from snn_policy.wrappers import SpikingPolicyParallelEval
from tests.actors import random_actor, walk

PENDULUM = path("td3-Pendulum-v1")


def small_policy(seed: int = 0) -> SpikingPolicy:
    actor = random_actor(seed=seed, widths=(12, 12))
    return convert(actor, walk(100, seed=seed), engine="numpy")


POLICY = small_policy()


class Crew:
    """Agents that observe a random walk of their own, and are there only in given steps.

    Args:
        shifts: agent → the steps (0: the reset) in which it observes.
    """

    def __init__(self, shifts: Mapping[str, Sequence[int]], length: int) -> None:
        self.possible_agents, self.shifts, self.length = list(shifts), shifts, length
        self.agents: list[str] = []
        width = POLICY.observation_shape[0]
        self.walks = {agent: walk(length + 1, seed=7 + k)[:, :width] for k, agent in enumerate(shifts)}
        self.unwrapped, self.closed = self, False

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-np.inf, np.inf, POLICY.observation_shape)

    def action_space(self, agent: str) -> Any:
        return spaces.Box(-10, 10, POLICY.action_shape)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.step_number = 0
        self.agents = [agent for agent in self.possible_agents if 0 in self.shifts[agent]]
        return self._seen(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        before = self.agents
        self.step_number += 1
        over = self.step_number == self.length
        here = [agent for agent in self.possible_agents if self.step_number in self.shifts[agent]]
        ended = {agent: over or agent not in here for agent in {*before, *here}}
        self.agents = [agent for agent in here if not over]
        reported = [*before, *(agent for agent in here if agent not in before)]
        return (self._seen(reported), dict.fromkeys(reported, 1.0), ended, dict.fromkeys(reported, False),
                {agent: {} for agent in reported})  # fmt: skip

    def _seen(self, agents: list[str]) -> Any:
        return {agent: self.walks[agent][self.step_number] for agent in agents}

    def close(self) -> None:
        self.closed = True


def actions_of(env: SpikingPolicyParallelEval) -> dict[str, list[np.ndarray]]:
    """All actions of one episode, by agent."""
    found: dict[str, list[np.ndarray]] = {agent: [] for agent in env.possible_agents}
    observations, _ = env.reset(seed=0)
    while env.agents:
        actions = env.act({agent: observations[agent] for agent in env.agents})
        for agent, action in actions.items():
            found[agent].append(action)
        observations, *_ = env.step(actions)
    return found


def alone(policy: SpikingPolicy, observations: Any) -> list[np.ndarray]:
    policy.reset()
    return [policy.act(obs) for obs in observations]


@pytest.mark.parametrize("agents", [("a", "b"), ("a", "b", "c"), ("only",)])
def test_every_agent_acts_as_if_it_were_alone(agents: tuple[str, ...]) -> None:
    crew = Crew({agent: range(21) for agent in agents}, 20)
    found = actions_of(SpikingPolicyParallelEval(crew, POLICY))
    for agent in agents:
        assert np.array_equal(found[agent], alone(POLICY, crew.walks[agent][:20]))


def test_two_agents_have_two_different_policies() -> None:
    crew, other = Crew({"a": range(21), "b": range(21)}, 20), small_policy(3)
    found = actions_of(SpikingPolicyParallelEval(crew, {"b": other, "a": POLICY}))
    assert np.array_equal(found["a"], alone(POLICY, crew.walks["a"][:20]))
    assert np.array_equal(found["b"], alone(other, crew.walks["b"][:20]))


def test_what_the_caller_holds_is_not_touched() -> None:
    policy = small_policy()
    policy.act(walk(1)[0])
    before = [array.copy() for array in policy.state]
    env = SpikingPolicyParallelEval(Crew({"a": range(9), "b": range(9)}, 8), policy)
    actions_of(env)
    assert all(np.array_equal(one, other) for one, other in zip(before, policy.state, strict=True))
    assert env.policies["a"] is not env.policies["b"]


@pytest.mark.parametrize("back", [6, 9, 14])
def test_an_agent_that_comes_back_begins_anew_and_the_others_go_on(back: int) -> None:
    crew = Crew({"a": [*range(4), *range(back, 21)], "b": range(21)}, 20)
    found = actions_of(SpikingPolicyParallelEval(crew, POLICY))
    assert np.array_equal(found["b"], alone(POLICY, crew.walks["b"][:20]))
    wanted = alone(POLICY, crew.walks["a"][:4]) + alone(POLICY, crew.walks["a"][back:20])
    assert np.array_equal(found["a"], wanted)


def test_a_reset_begins_every_agent_anew() -> None:
    crew = Crew({"a": range(13), "b": range(5)}, 12)
    env = SpikingPolicyParallelEval(crew, POLICY)
    first, second = actions_of(env), actions_of(env)
    assert all(np.array_equal(first[agent], second[agent]) for agent in first)


def test_costs_and_returns_are_reported_by_agent() -> None:
    crew = Crew({"a": range(13), "b": range(5)}, 12)
    env = SpikingPolicyParallelEval(crew, POLICY, shadow=True)
    observations, _ = env.reset(seed=0)
    episodes, decisions = {}, 0
    while env.agents:
        observations, _, _, _, infos = env.step(env.act({agent: observations[agent] for agent in env.agents}))
        for agent, info in infos.items():
            decisions += "spikes" in info["snn"]
            if "episode" in info["snn"]:
                episodes[agent] = info["snn"]["episode"]
    assert {agent: (one["return"], one["length"], one["decisions"]) for agent, one in episodes.items()} == {
        "a": (12.0, 12, 12),
        "b": (5.0, 5, 5),
    }
    assert decisions == 17
    assert 0 < episodes["a"]["ann_error"] < 1


def test_what_else_the_environment_has_is_passed_on() -> None:
    crew = Crew({"a": range(3)}, 2)
    env = SpikingPolicyParallelEval(crew, POLICY)
    env.close()
    assert crew.closed
    assert env.shifts == {"a": range(3)}
    with pytest.raises(AttributeError):
        _ = env.nothing_of_that_name


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ({"a": POLICY}, "agent 'b' has no policy"),
        ({"a": POLICY, "b": POLICY, "c": POLICY}, "agent 'c' is not among"),
        ({"a": POLICY, "b": SpikingPolicy.load(PENDULUM)}, "agent 'b': .*does not fit"),
    ],
)
def test_policies_that_do_not_fit_are_refused_by_agent(policies: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SpikingPolicyParallelEval(Crew({"a": range(3), "b": range(3)}, 2), policies)


def test_an_environment_without_agents_is_refused() -> None:
    with pytest.raises(TypeError, match="parallel API"):
        SpikingPolicyParallelEval(object(), POLICY)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_observation_that_cannot_be_used_names_its_agent(number: float) -> None:
    crew = Crew({"a": range(9), "b": range(9)}, 8)
    crew.walks["b"][3, 1] = number
    with pytest.raises(ValueError, match=r"agent 'b'.*seed 0.*step 3"):
        actions_of(SpikingPolicyParallelEval(crew, POLICY))


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(two_agents, "EPISODES", 1)
    two_agents.main()
    left, right = capsys.readouterr().out.splitlines()
    assert left.startswith("seed 0, left: return")
    assert "in 200 decisions" in right


def test_pendulums_without_a_spring_are_two_tasks() -> None:
    env = SpikingPolicyParallelEval(CoupledPendulums(stiffness=0.0, limit=40), SpikingPolicy.load(PENDULUM))
    both = actions_of(env)
    env.env.reset(seed=0)
    moved = SpikingPolicyParallelEval(
        CoupledPendulums(stiffness=0.0, limit=40),
        {"left": SpikingPolicy.load(PENDULUM), "right": convert(load_actor(PENDULUM), walk(50)[:, :3] / 10)},
    )
    assert np.array_equal(both["left"], actions_of(moved)["left"])
    assert both.keys() == set(AGENTS)
