"""SpikingPolicyEval: one environment and the policy that acts in it, for any evaluation loop."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from snn_policy.environments import check_spaces
from snn_policy.evaluation.evaluate import evaluate_in
from snn_policy.evaluation.results import Evaluation
from snn_policy.observations import environment_name, host_array, host_observation
from snn_policy.progress import counting
from snn_policy.protocol import Policy

from .bookkeeping import Bookkeeper, first_row, shadow_actor
from .intake import Intake, check_kinds


class SpikingPolicyEval(gym.Wrapper, RecordConstructorArgs):
    """Reset the policy whenever an episode begins, and report in `info["snn"]` what its decisions cost.

        env = SpikingPolicyEval(gym.make("HalfCheetah-v5"), policy)
        obs, info = env.reset(seed=0)
        over = False
        while not over:
            obs, reward, terminated, truncated, info = env.step(env.act(obs))     # or policy.act(obs): the same
            over = terminated or truncated

    `info["snn"]` holds, for the decision taken since the step before: `spikes` (layers,), `events` (where known),
    `synaptic_operations`, `multiply_accumulates` (`snn_policy.protocol.Costs`), `energy` in nanojoules
    (`snn_policy.energy`), `iterations` and `error_spikes` of spike calibration and, with `shadow`, `ann_error`
    (`bookkeeping.action_error`); it is empty where no decision was taken. On an episode's last step
    `info["snn"]["episode"]` has their totals (of `ann_error` the mean), `decisions`, `return` and `length`.

    Wrappers that change observations or actions for the policy belong inside. From outside, reach `act` and
    `evaluate` with `env.get_wrapper_attr("act")`. Episodes may also begin inside `step`, as with an inner
    `gymnasium.wrappers.Autoreset`.

    Environments may give tensors of PyTorch or another array library, on the CPU: `act` then gives its actions in the
    same form, and `step` takes them in either.

    Args:
        env: its spaces must fit the policy, else `ValueError`.
        policy: one per environment; for `gymnasium.vector` there is `SpikingPolicyVectorEval`.
        shadow: ask the ANN for its action, too.

    Raises:
        ValueError: spaces that do not fit; from `reset` and `step` an observation or a reward that cannot be used
            (another shape or device, NaN; it names seed, row and step).
        TypeError: the arguments in another order.
    """

    def __init__(self, env: gym.Env, policy: "Policy | SharedPolicy", shadow: bool = False) -> None:
        policy = policy.policy if isinstance(policy, SharedPolicy) else policy
        check_kinds(type(self).__name__, env, policy, gym.Env)
        RecordConstructorArgs.__init__(self, policy=SharedPolicy(policy), shadow=shadow)
        gym.Wrapper.__init__(self, env)
        check_spaces(env, policy)
        self.policy = policy
        self._book = Bookkeeper(policy, 1, shadow_actor(policy, shadow))
        self._intake = Intake(environment_name(env), policy.observation_shape)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._book.begin_all(self._intake.first([seed], obs))
        return obs, info

    def act(self, obs: Any) -> Any:
        """Return the policy's action, in the form of the environment's own arrays."""
        given = host_observation(obs, self.policy.observation_shape)
        return self._intake.form.of(self.policy.act(given, active=~self._book.replaying))

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        began = self._book.replaying
        taken = host_array(action, "action")
        obs, reward, terminated, truncated, info = self.env.step(self._intake.form.of(action))
        batch, rewards = self._intake.following(obs, reward, np.where(began, 0, self._book.steps + 1))
        costs, counted = self._book.record(taken[None], rewards)
        snn: dict[str, Any] = first_row(costs) if counted[0] else {}
        if terminated or truncated:
            snn["episode"] = first_row(self._book.summary())
        if began[0]:
            self._book.begin(batch, began)
            self._intake.forget_seeds(began)
        self._book.observe(batch)
        self._book.replaying = np.array([bool(terminated or truncated)], np.bool_)
        return obs, reward, terminated, truncated, {**info, "snn": snn}

    def evaluate(self, episodes: int = 20, seed: int = 5000, progress: bool = False) -> Evaluation:
        """Run whole episodes in this environment, with the seeds seed, seed + 1, …; see `snn_policy.evaluate`."""
        with counting("episodes", episodes, progress) as advance:
            return evaluate_in(self.policy, [self], episodes=episodes, seed=seed, advance=advance)


class SharedPolicy:
    """Keep the policy in `env.spec`: Gymnasium copies a specification whenever it is read, but an environment
    made from it must reset the policy that its user holds, which may not even be copyable."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedPolicy":
        return self
