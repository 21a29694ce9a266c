"""Whole episodes of a policy in an environment: what they return and what the decisions cost.

Episode i always starts with `env.reset(seed=seed + i)`, whatever the number of environments side by side and of
worker processes, so that two policies, or two machines, are compared on the same episodes. Energy as in
`snn_policy.energy`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from snn_policy.actor import Actor
from snn_policy.checks import at_least
from snn_policy.environments import Distinct, EnvironmentSource, make_environments
from snn_policy.evaluation.episodes import CostRecorder, Episode, Totals, run_episodes, summed
from snn_policy.evaluation.results import Comparison, Evaluation
from snn_policy.evaluation.workers import run_in_workers, usable_cores
from snn_policy.observations import environment_name
from snn_policy.progress import counting
from snn_policy.protocol import Policy
from snn_policy.versions import installed_versions

__all__ = ["Comparison", "Evaluation", "compare", "evaluate", "evaluate_in"]
MOST_ROWS = 10
"""Environments side by side in one process where the user does not say how many."""


def evaluate(
    policy: Policy,
    env: EnvironmentSource,
    *,
    episodes: int = 20,
    seed: int = 5000,
    num_envs: int | None = None,
    workers: int = 1,
    progress: bool | str = False,
) -> Evaluation:
    """Run whole episodes, `num_envs` side by side (by default at most 10 per worker), and close the environments.

    With one worker the policy is left as it is after its last decision: `reset` it before using it elsewhere. With
    more, copies of it act, and it stays as it was, its memory, `counters` and `last_decision` included.

    Args:
        env: a Gymnasium id, or a function that makes an environment; for several workers one that can be pickled.
        seed: of the first episode; episode i has seed + i.
        num_envs: of all workers together.
        workers: processes that share the episodes; 0: as many as cores may be used. Never more than `num_envs` or
            `episodes`. They are started anew, which takes seconds, and a script that asks for several must do so
            under `if __name__ == "__main__":`.
        progress: show a bar on stderr; a text names it.

    Raises:
        ValueError: an environment that cannot be made or does not fit the policy, or the same one twice; numbers
            below 1; an environment or a policy that cannot be sent to workers; an observation or a reward that cannot
            be used (it names seed, row and step).
        TypeError: arguments in another order.
        ChildProcessError: a worker died.
    """
    _refuse_other_order("evaluate", "policy, env", (policy,), env)
    return _evaluate(policy, env, episodes, seed, num_envs, workers, progress, Distinct())


def _evaluate(
    policy: Policy,
    env: EnvironmentSource,
    episodes: int,
    seed: int,
    num_envs: int | None,
    workers: int,
    progress: bool | str,
    given: Distinct,
) -> Evaluation:
    """Do as `evaluate` with environments none of which has been given before."""
    check_counts(episodes, num_envs, seed, workers)
    rows = rows_of_workers(episodes, num_envs, workers)
    bar = counting(progress if isinstance(progress, str) else "episodes", episodes, bool(progress))
    if len(rows) > 1:
        results = run_in_workers(policy, env, episodes, seed, rows, bar)
        finished = [episode for result in results for episode in result.finished]
        return evaluation(results[0].environment, seed, finished, rows, summed(result.totals for result in results))
    envs = make_environments(env, policy, rows[0], given)
    try:
        with bar as advance:
            return evaluate_in(policy, envs, episodes=episodes, seed=seed, advance=advance)
    finally:
        for made in envs:
            made.close()


def compare(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    *,
    episodes: int = 20,
    seed: int = 5000,
    num_envs: int | None = None,
    workers: int = 1,
    progress: bool = False,
    compressed: Actor | None = None,
) -> Comparison:
    """Evaluate the ANN and its spiking conversion on the same seeds; arguments as for `evaluate`.

    Args:
        compressed: the sparse ANN that the SNN was made from, where it is another one: an opponent, too.

    Raises:
        ValueError: as `evaluate`.
        TypeError: as `evaluate`, or another policy than an `Actor` in the first place.
    """
    _refuse_other_order("compare", "actor, policy, env", (actor, policy), env)
    if not isinstance(actor, Actor):
        swapped = isinstance(policy, Actor)
        remedy = "the two policies are swapped" if swapped else "for a conversion give its .actor"
        kind = type(actor).__name__
        raise TypeError(f"compare: expected compare(actor, policy, env), the ANN first, got a {kind} there; {remedy}")
    check_counts(episodes, num_envs, seed, workers)
    if not isinstance(env, str) and sum(rows_of_workers(episodes, num_envs, workers)) == 1:
        for spare in make_environments(env, actor, 2):  # or the same one would be found after the first evaluation
            spare.close()
    given = Distinct()  # both sets: the second must not be the first one again
    policies = [(actor, "ANN episodes"), (policy, "SNN episodes")]
    policies += [] if compressed is None else [(compressed, "compressed ANN episodes")]
    found = [
        _evaluate(evaluated, env, episodes, seed, num_envs, workers, progress and name, given)
        for evaluated, name in policies
    ]
    synapses = None if compressed is None else compressed.synapses
    return Comparison(found[0], found[1], actor.dense_macs, *found[2:], compressed_synapses=synapses)


def _refuse_other_order(function: str, order: str, policies: Sequence[Any], env: Any) -> None:
    """Raise `TypeError` where a policy stands in the environment's place, or the environment in a policy's."""
    if isinstance(env, Policy) or not all(isinstance(policy, Policy) for policy in policies):
        kinds = ", ".join(type(given).__name__ for given in (*policies, env))
        swapped = "; the arguments are swapped" if isinstance(env, Policy) else ""
        raise TypeError(f"{function}: expected {function}({order}), got ({kinds}){swapped}")


def evaluate_in(
    policy: Policy,
    envs: Sequence[gym.Env],
    *,
    episodes: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run episodes in the given environments, one row of the policy each; `advance` is called after every episode.

    A row whose episode is over goes on with the next seed; once there is none left, it neither acts nor counts.

    Raises:
        ValueError: the same environment twice; an observation or a reward that cannot be used.
    """
    check_counts(episodes, len(envs), seed)
    Distinct(envs)
    envs, indices = envs[:episodes], iter(range(episodes))
    recorder = CostRecorder(policy, envs)
    finished = run_episodes(recorder, envs, seed, lambda: next(indices, None), advance)
    return evaluation(environment_name(envs[0]), seed, finished, [len(envs)], recorder.totals())


def check_counts(episodes: int, num_envs: int | None = None, seed: int = 0, workers: int = 1) -> None:
    at_least(1, episodes=episodes, num_envs=1 if num_envs is None else num_envs)
    at_least(0, seed=seed, workers=workers)


def rows_of_workers(episodes: int, num_envs: int | None, workers: int) -> list[int]:
    """Return environments of every worker.

    By default each begins at most half of its share at once, so that those whose episodes are short take more.
    """
    workers = min(workers or usable_cores(), episodes, num_envs or episodes)
    share = episodes if workers == 1 else -(-episodes // (2 * workers))
    together = min(episodes, num_envs or workers * min(share, MOST_ROWS))
    return [(together + worker) // workers for worker in range(workers)]


def evaluation(
    environment: str, seed: int, finished: Sequence[Episode], rows: Sequence[int], totals: Totals
) -> Evaluation:
    """Return the record of these episodes, in the order of their seeds; `rows` are the environments of every worker."""
    numbers, returns, lengths = zip(*sorted(finished), strict=True)
    return Evaluation(
        environment=environment,
        seeds=tuple(seed + number for number in numbers),
        returns=returns,
        lengths=lengths,
        num_envs=sum(rows),
        workers=len(rows),
        **totals.averages(),
        versions={name.replace("-", "_"): version for name, version in installed_versions().items()},
    )
