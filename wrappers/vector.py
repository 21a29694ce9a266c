"""SpikingPolicyVectorEval: environments side by side, one row of the policy each, in every autoreset mode."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from snn_policy.environments import Distinct, check_spaces
from snn_policy.evaluation.episodes import CostRecorder, Episode
from snn_policy.evaluation.evaluate import check_counts, evaluation
from snn_policy.evaluation.results import Evaluation
from snn_policy.observations import environment_name, host_array, host_observation
from snn_policy.progress import counting
from snn_policy.protocol import Mask, Policy, as_mask

from .autoreset import check_final_observations, declared_mode
from .bookkeeping import Bookkeeper, Report, shadow_actor
from .intake import Intake, check_kinds

Step = tuple[Any, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]


class SpikingPolicyVectorEval(VectorWrapper):
    """Do as `SpikingPolicyEval` for `gymnasium.vector`: clear each row's membranes when its own episode begins.

        envs = SpikingPolicyVectorEval(gym.make_vec("HalfCheetah-v5", num_envs=8), policy)
        obs, infos = envs.reset(seed=0)
        obs, rewards, terminations, truncations, infos = envs.step(envs.act(obs))     # or policy.act(obs)

    That is, by the environments' `metadata["autoreset_mode"]` (NEXT_STEP, with a warning, where they declare none):
    NEXT_STEP one step after the episode's end, with the action in between ignored (`act` then neither advances nor
    counts that row; after `policy.act` it is cleared all the same) · SAME_STEP at once · DISABLED with
    `reset(options={"reset_mask": mask})`.

    `infos["snn"]` has the entries of `SpikingPolicyEval` as arrays over rows, each with its mask `_name`, as all
    of Gymnasium's vector infos; `infos["snn"]["episode"]` at the last step of any row's episode. In SAME_STEP
    mode, too, they belong to the step just made. Infos that are one dictionary per row get `info["snn"]` each.

    Environments may give tensors of PyTorch or another array library, on the CPU: `act` then gives its actions in the
    same form, and `step` takes them in either; reports are NumPy's.

    Raises:
        ValueError: spaces that do not fit the policy, one environment in two rows, or a reset that Gymnasium would
            carry out twice; from `reset` and `step` what cannot be used (another shape or device, NaN; it names seed,
            row and step), and from `step` last observations (`final_obs`) that contradict the autoreset mode.
        TypeError: the arguments in another order, or another environment than a `VectorEnv`.
        gymnasium.error.ResetNeeded: a step in DISABLED mode while a row's episode is over.
    """

    def __init__(self, env: VectorEnv, policy: Policy, shadow: bool = False) -> None:
        check_kinds(type(self).__name__, env, policy, VectorEnv)
        super().__init__(env)
        check_spaces(env, policy)
        Distinct(env for env in getattr(self.unwrapped, "envs", ()) if isinstance(env, gym.Env))
        self.policy = policy
        self.autoreset_mode = declared_mode(env)
        self._book = Bookkeeper(policy, env.num_envs, shadow_actor(policy, shadow))
        self._intake = Intake(environment_name(env), policy.observation_shape, env.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every row, or in those where `options["reset_mask"]` is true."""
        given = None if options is None else options.get("reset_mask")
        mask = None if given is None else as_mask(host_array(given, "reset_mask"), self.num_envs, "reset_mask").copy()
        self._refuse_double_reset(mask)
        # the environment takes the mask out of the dictionary, which wrappers further out still need
        obs, infos = self.env.reset(
            seed=seed,  # pyright: ignore[reportArgumentType]
            options=None if options is None else dict(options),
        )
        batch = self._intake.first(_seeds(seed, self.num_envs), obs, mask)
        if mask is None:
            self._book.begin_all(batch)
        else:
            self._book.begin(batch, mask)
        return obs, infos

    def _refuse_double_reset(self, mask: Mask | None) -> None:
        """Refuse a reset that would be made twice.

        Gymnasium's AsyncVectorEnv without shared memory forgets that a reset replaces the autoreset that is due, and
        resets the row once more in the next step (seen in 1.4.0), which nothing it returns would show.
        """
        due, base = self._book.replaying if mask is None else self._book.replaying & mask, self.unwrapped
        forgetful = isinstance(base, AsyncVectorEnv) and not base.shared_memory
        if forgetful and self.autoreset_mode == AutoresetMode.NEXT_STEP and np.any(due):
            raise ValueError(
                f"reset: the autoreset of rows {np.flatnonzero(due).tolist()} is due, and AsyncVectorEnv(shared_memory="
                "False) would reset them again in the next step; use shared_memory=True or another autoreset mode"
            )

    def act(self, obs: Any) -> Any:
        """Return the policy's actions, in the form of the environments' own arrays; rows whose episode is over neither
        advance nor count."""
        given = host_observation(obs, self.policy.observation_shape)
        return self._intake.form.of(self.policy.act(given, active=~self._book.replaying))

    def step(self, actions: Any) -> Step:
        book, replaying = self._book, self._book.replaying
        if self.autoreset_mode == AutoresetMode.DISABLED and replaying.any():
            rows = np.flatnonzero(replaying).tolist()
            raise ResetNeeded(f"the episodes of rows {rows} are over: call reset(options={{'reset_mask': mask}}) first")
        taken = host_array(actions, "actions")
        obs, rewards, terminations, truncations, infos = self.env.step(self._intake.form.of(actions))
        over = self._intake.flags(terminations, "terminations") | self._intake.flags(truncations, "truncations")
        check_final_observations(self, self.autoreset_mode, infos, over)
        batch, gained = self._intake.following(obs, rewards, np.where(replaying, 0, book.steps + 1))
        costs, counted = book.record(taken, gained)
        snn = _masked(costs, counted)
        if over.any():
            snn |= {"episode": _masked(book.summary(), over), "_episode": over.copy()}
        begins = over if self.autoreset_mode == AutoresetMode.SAME_STEP else replaying
        if begins.any():
            book.begin(batch, begins)
            self._intake.forget_seeds(begins)
        book.observe(batch)
        book.replaying = over & ~begins
        return obs, rewards, terminations, truncations, _with_reports(infos, snn, counted | over)

    def evaluate(self, episodes: int = 20, seed: int = 5000, progress: bool = False) -> Evaluation:
        """Run whole episodes with the seeds seed, seed + 1, …; see `snn_policy.evaluation.evaluate`.

        One episode per row at a time, all rows starting together: only so does every one get its own seed.
        """
        check_counts(episodes, seed=seed)
        base = self.unwrapped
        recorder = CostRecorder(self.policy, base.envs if isinstance(base, SyncVectorEnv) else ())
        returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
        with counting("episodes", episodes, progress) as advance:
            for first in range(0, episodes, self.num_envs):
                rows = np.arange(first, first + self.num_envs)
                self._run_together(recorder, rows, seed, returns, lengths)
                for _ in rows[rows < episodes]:
                    advance()
        finished = list(map(Episode, range(episodes), returns.tolist(), lengths.tolist()))
        return evaluation(environment_name(self), seed, finished, [self.num_envs], recorder.totals())

    def _run_together(self, recorder: CostRecorder, episode: Any, seed: int, returns: Any, lengths: Any) -> None:
        obs, _ = recorder.simulate(self.reset, seed=(seed + episode).tolist())
        if not recorder.decisions:
            recorder.warm_up(host_observation(obs, self.policy.observation_shape))
        running = episode < len(returns)
        while running.any():
            actions = recorder.act(host_observation(obs, self.policy.observation_shape), running)
            obs, rewards, terminations, truncations, _ = recorder.simulate(self.step, actions)
            returns[episode[running]] += host_array(rewards, "rewards")[running]
            lengths[episode[running]] += 1
            over = self._intake.flags(terminations, "terminations") | self._intake.flags(truncations, "truncations")
            running &= ~over
            if self.autoreset_mode == AutoresetMode.DISABLED and over.any():
                obs, _ = recorder.simulate(self.reset, options={"reset_mask": over})


def _seeds(seed: int | Sequence[int | None] | None, rows: int) -> list[int | None]:
    """Return every row's seed, as Gymnasium's vector environments read them."""
    if seed is None:
        return [None] * rows
    return [seed + row for row in range(rows)] if isinstance(seed, int | np.integer) else list(seed)


def _with_reports(infos: Any, snn: dict[str, Any], reported: Mask) -> Any:
    """Return the environment's infos and the policy's: one dictionary of arrays, or one dictionary per row."""
    if isinstance(infos, Sequence):
        return [{**(info or {}), "snn": _of_row(snn, row)} for row, info in enumerate(infos)]
    return {**(infos or {}), "snn": snn, "_snn": reported}


def _of_row(report: dict[str, Any], row: int) -> dict[str, Any]:
    """Return the entries that the masks beside them give to one row."""
    found: dict[str, Any] = {}
    for name, values in report.items():
        if f"_{name}" in report and report[f"_{name}"][row]:
            found[name] = _of_row(values, row) if isinstance(values, dict) else values[row].copy()
    return found


def _masked(costs: Report, rows: Mask) -> dict[str, Any]:
    """Follow Gymnasium's convention: zeros where there is nothing to say, and a mask of where there is."""
    masked: dict[str, Any] = {}
    for name, values in costs.items():
        where = rows.reshape(-1, *[1] * (values.ndim - 1))
        masked |= {name: np.where(where, values, np.zeros((), values.dtype)), f"_{name}": rows.copy()}
    return masked
