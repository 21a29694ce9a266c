"""One environment for two rows: refused wherever environments are made, however it is wrapped."""

import functools
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from marker_env import MarkerEnv, RecordingPolicy, dyadic_actor

from snn_policy.environments import Distinct, make_environments
from snn_policy.evaluation.evaluate import compare, evaluate, evaluate_in
from snn_policy.offline.collect import rollout
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval

COMPLAINT = "the same environment twice"


class Shared(MarkerEnv):
    closed = 0

    def close(self) -> None:
        self.closed += 1


only = Shared(seeded=True)


def the_only_one(**_: Any) -> gym.Env:
    return only


@functools.cache
def cached() -> gym.Env:
    return MarkerEnv(seeded=True)


gym.register("Shared-v0", entry_point=the_only_one)


class Pool:
    """Gives two environments in turn."""

    def __init__(self) -> None:
        self.envs, self.given = [Shared(seeded=True), Shared(seeded=True)], 0

    def __call__(self) -> gym.Env:
        self.given += 1
        return self.envs[self.given % 2]


def sources() -> dict[str, Any]:
    env, base = gym.make("Marker-v0"), MarkerEnv(seeded=True)
    return {
        "lambda: env": lambda: env,
        "a function of a module": the_only_one,
        "a cache": cached,
        "a partial": functools.partial(lambda env: env, base),
        "a pool of two": Pool(),
        "one base in new wrappers": lambda: RecordEpisodeStatistics(TimeLimit(base, 5)),
        "an inner wrapper": functools.partial(lambda env: TimeLimit(env, 5), RecordEpisodeStatistics(MarkerEnv())),
        "a policy's wrapper": lambda: SpikingPolicyEval(base, RecordingPolicy()),
        "an id whose entry point gives the same": "Shared-v0",
    }


@pytest.mark.parametrize("name", sources())
def test_a_source_that_gives_the_same_environment_twice_is_refused(name):
    with pytest.raises(ValueError, match=COMPLAINT):
        evaluate(RecordingPolicy(), sources()[name], episodes=4)
    with pytest.raises(ValueError, match=COMPLAINT):
        compare(dyadic_actor(), RecordingPolicy(), sources()[name], episodes=4)


@pytest.mark.parametrize("name", [name for name in sources() if name != "a pool of two"])
def test_compare_needs_two_even_where_every_evaluation_needs_one(name):
    with pytest.raises(ValueError, match=COMPLAINT):
        compare(dyadic_actor(), RecordingPolicy(), sources()[name], episodes=3, num_envs=1)


def test_a_shared_environment_is_found_before_any_episode_and_stays_open():
    env = Shared(seeded=True)
    for run in (
        lambda: evaluate(RecordingPolicy(), lambda: env),
        lambda: compare(dyadic_actor(), RecordingPolicy(), lambda: env, episodes=1),
    ):
        with pytest.raises(ValueError, match=COMPLAINT):
            run()
        assert (env.episode, env.closed) == (-1, 0)


def test_environments_made_before_one_comes_twice_are_closed_but_for_that_one():
    pool = Pool()
    with pytest.raises(ValueError, match=COMPLAINT):
        make_environments(pool, RecordingPolicy(), 3)
    assert sorted(env.closed for env in pool.envs) == [0, 1]


@pytest.mark.parametrize("source", [the_only_one, functools.partial(the_only_one), "Shared-v0"])
@pytest.mark.parametrize("num_envs", [2, 4])
def test_workers_refuse_it_too(source, num_envs):
    if source == "Shared-v0" and num_envs == 2:
        return  # each of the two processes makes one environment, of its own
    with pytest.raises(ValueError, match=COMPLAINT):
        evaluate(RecordingPolicy(), source, episodes=4, num_envs=num_envs, workers=2)


def test_rollouts_refuse_it():
    with pytest.raises(ValueError, match=COMPLAINT):
        rollout(dyadic_actor(), "Shared-v0", steps=20)


def test_environments_given_side_by_side_must_differ():
    env = MarkerEnv(seeded=True)
    with pytest.raises(ValueError, match=COMPLAINT):
        evaluate_in(RecordingPolicy(), [env, env], episodes=2, seed=0)
    with pytest.raises(ValueError, match=COMPLAINT):
        evaluate_in(RecordingPolicy(), [TimeLimit(env, 3), TimeLimit(env, 4)], episodes=2, seed=0)


def test_vector_environments_of_one_environment_are_refused():
    env = MarkerEnv()
    for make in (lambda: env, lambda: TimeLimit(env, 5)):
        with pytest.raises(ValueError, match=COMPLAINT):
            SpikingPolicyVectorEval(SyncVectorEnv([make, make]), RecordingPolicy())


def test_one_environment_for_one_row_is_nobodys_mistake():
    env = MarkerEnv(seeded=True)
    one = evaluate(RecordingPolicy(), lambda: env, episodes=3, num_envs=1)
    assert one.returns == evaluate(RecordingPolicy(), lambda: MarkerEnv(seeded=True), episodes=3).returns


def test_environments_that_are_gone_are_forgotten():
    distinct = Distinct()
    for _ in range(50):  # the addresses of those that are gone are used again
        distinct.add(MarkerEnv())
