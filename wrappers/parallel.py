"""SpikingPolicyParallelEval: several agents in one environment, each with a policy and a memory of its own."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.environments import check_spaces
from snn_policy.observations import host_array, host_observation
from snn_policy.protocol import Policy

from .bookkeeping import Bookkeeper, first_row, shadow_actor
from .intake import Intake

Agents = dict[str, Any]


@dataclass(frozen=True)
class AgentView:
    """Show one agent's spaces as those of a single environment."""

    unwrapped: Any
    agent: str

    @property
    def observation_space(self) -> Any:
        return self.unwrapped.observation_space(self.agent)

    @property
    def action_space(self) -> Any:
        return self.unwrapped.action_space(self.agent)


class SpikingPolicyParallelEval:
    """Reset an agent's policy whenever its episode begins, and report in `infos[agent]["snn"]` what it cost.

    For environments with PettingZoo's parallel API, which is not imported; whatever else they have (`agents`,
    `observation_space`, `close`, …) is passed on.

        env = SpikingPolicyParallelEval(parallel_env, {"left": policy, "right": policy})
        observations, infos = env.reset(seed=0)
        while env.agents:
            observations, rewards, terminations, truncations, infos = env.step(env.act(observations))

    Every agent has a copy of its policy, so that no memory is mixed where one policy drives several agents, and none
    that the caller holds is touched; `policies` has the copies. An agent's memory is cleared by `reset`, and where the
    agent comes (back) in a step. `infos[agent]["snn"]` is as in `SpikingPolicyEval`, `episode` included on the agent's
    last step. A policy may also be asked directly, `env.policies[agent].act(observation)`.

    Args:
        env: its `possible_agents` have observation and action spaces that fit their policies, else `ValueError`.
        policies: of all agents by their names; or one for all of them.
        shadow: ask the ANNs for their actions, too.

    Raises:
        ValueError: an agent without a policy, or a policy of no agent; from `reset` and `step` an observation or a
            reward that cannot be used (it names agent, seed and step).
        TypeError: an environment without the parallel API.
    """

    def __init__(self, env: Any, policies: "Mapping[str, Policy] | Policy", shadow: bool = False) -> None:
        missing = [name for name in ("possible_agents", "observation_space", "reset", "step") if not hasattr(env, name)]
        if missing:
            raise TypeError(
                f"{type(self).__name__}(env, policies): {type(env).__name__} has no {missing[0]}; expected an "
                "environment with PettingZoo's parallel API; a single agent takes SpikingPolicyEval"
            )
        agents = list(env.possible_agents)
        given = policies if isinstance(policies, Mapping) else dict.fromkeys(agents, policies)
        wrong = [agent for agent in (*agents, *given) if agent not in given or agent not in agents]
        if wrong:
            what = "has no policy" if wrong[0] in agents else "is not among the environment's"
            raise ValueError(f"policies: agent {wrong[0]!r} {what}; expected one policy for each of {agents}")
        self.env, self.policies = env, {agent: copy.deepcopy(given[agent]) for agent in agents}
        self._books: dict[str, Bookkeeper] = {}
        self._intakes: dict[str, Intake] = {}
        for agent, policy in self.policies.items():
            try:
                check_spaces(AgentView(env, agent), policy)  # pyright: ignore[reportArgumentType]
            except ValueError as problem:
                raise ValueError(f"agent {agent!r}: {problem}") from None
            self._books[agent] = Bookkeeper(policy, 1, shadow_actor(policy, shadow))
            self._intakes[agent] = Intake(f"{type(env).__name__}, agent {agent!r}", policy.observation_shape)
        self._present: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Agents, Agents]:
        """Begin an episode of all agents."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._present = set()
        for policy in self.policies.values():
            policy.reset(num_envs=1)
        self._begin_new(observations, seed)
        return observations, infos

    def act(self, observations: Mapping[str, Any]) -> Agents:
        """Return the action of every agent that observes, by its name, in the form of its own arrays."""
        actions = {}
        for agent, obs in observations.items():
            policy = self._policy(agent)
            given = host_observation(obs, policy.observation_shape)
            actions[agent] = self._intakes[agent].form.of(policy.act(given))
        return actions

    def step(self, actions: Mapping[str, Any]) -> tuple[Agents, Agents, Agents, Agents, Agents]:
        """Take a step of all agents, and account for the decisions of those that were there before it."""
        taken = {agent: host_array(action, f"action of {agent!r}") for agent, action in actions.items()}
        observations, rewards, terminations, truncations, infos = self.env.step(dict(actions))
        infos = {**infos}
        for agent in [agent for agent in rewards if agent in self._present]:
            over = bool(terminations.get(agent, False)) or bool(truncations.get(agent, False))
            snn = self._account(agent, taken.get(agent), observations.get(agent), rewards[agent], over)
            infos[agent] = {**infos.get(agent, {}), "snn": snn}
            if over:
                self._present.remove(agent)
        self._present &= set(rewards)
        self._begin_new({agent: obs for agent, obs in observations.items() if agent in self.env.agents}, None)
        return observations, rewards, terminations, truncations, infos

    def _account(self, agent: str, action: Any, obs: Any, reward: Any, over: bool) -> dict[str, Any]:
        book, intake = self._books[agent], self._intakes[agent]
        batch, rewards = None, np.array([float(reward)])
        if obs is not None:  # an agent that is gone may not show its last state
            batch, rewards = intake.following(obs, reward, book.steps + 1)
        costs, counted = book.record(None if action is None else action[None], rewards)
        if batch is not None:
            book.observe(batch)
        snn: dict[str, Any] = first_row(costs) if counted[0] else {}
        if over:
            snn["episode"] = first_row(book.summary())
        return snn

    def _begin_new(self, observations: Mapping[str, Any], seed: int | None) -> None:
        for agent in [agent for agent in observations if agent not in self._present]:
            self._policy(agent)
            self._books[agent].begin_all(self._intakes[agent].first([seed], observations[agent]))
            self._present.add(agent)

    def _policy(self, agent: str) -> Policy:
        if agent not in self.policies:
            raise ValueError(f"agent {agent!r}: it has no policy; expected one of {list(self.policies)}")
        return self.policies[agent]
