"""Errors with a known answer, on tasks that can be computed by hand: what the analyses of restored states must find."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from snn_policy import Actor, convert
from snn_policy.analysis import consistency, decomposition, divergence, sensitivity, walk
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from tests.stage_graphs import INPUTS, graph_actor

Error = Callable[[int], Any]
STEPS = 60


class Line(gym.Env):
    """Move as x ← growth·x + a, in two dimensions; the reward is a function of (x before, action)."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, growth: float = 1.0, reward: Callable[[Any, Any], float] | None = None, edge: float = np.inf):
        self.growth, self.edge = growth, edge
        self.reward = reward or (lambda x, action: 1.0 - float(x @ x))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.normal(size=2) / 10, 0
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action, self.steps = np.asarray(action, np.float64), self.steps + 1
        reward = self.reward(self.x, action)
        self.x = self.growth * self.x + action
        return self.x.astype(np.float32), reward, bool(abs(self.x).max() > self.edge), self.steps == STEPS, {}


class Erring:
    """Do what the ANN does, and add an error that depends on the number of the decision, its only memory."""

    def __init__(self, actor: Actor, error: Error) -> None:
        self.actor, self.error = actor, error

    def initial_state(self, n: int) -> Any:
        return 0

    def step(self, obs: Any, state: int) -> Any:
        return self.actor.step(obs, ())[0] + np.asarray(self.error(state), np.float32), state + 1


def linear(weight: Any, bias: Any, activation: Any = None) -> Linear:
    return Linear(np.float32(weight), np.float32(bias), activation)  # pyright: ignore[reportArgumentType]


def proportional(gain: float) -> Actor:
    return Actor([linear(-gain * np.eye(2), np.zeros(2))], Head.clip(-np.ones(2), np.ones(2)), (2,))


def white(decision: int) -> Any:
    return np.random.default_rng(decision).normal(size=2) / 100


def constant(decision: int) -> Any:
    return np.array([0.02, -0.01])


def alternating(decision: int) -> Any:
    return constant(decision) * (-1) ** decision


def means(result: Any) -> dict[str, float]:
    return {name: found.mean for name, found in result.summary.items()}


@pytest.mark.parametrize(
    ("error", "expected", "within"), [(constant, 1.0, 1e-4), (alternating, -1.0, 1e-4), (white, 0.0, 0.12)]
)
def test_consistency_of_constant_alternating_and_white_errors_is_1_minus_1_and_0(
    error: Error, expected: float, within: float
) -> None:
    actor = proportional(0.5)
    found = consistency(actor, Erring(actor, error), Line, episodes=5)  # pyright: ignore[reportArgumentType]
    assert [len(cosines) for cosines in found.consistency] == [STEPS - 1] * 5
    assert means(found)["consistency"] == pytest.approx(expected, abs=within)
    assert means(found)["beside_ann"] == pytest.approx(expected, abs=within)
    low, high = found.summary["consistency"].interval
    assert low - 1e-6 <= means(found)["consistency"] <= high + 1e-6


@pytest.mark.parametrize(
    ("gain", "error", "correction", "drift"),
    [(0.5, constant, -1, 1), (0.5, alternating, -1, -1), (1.5, constant, -1, -1), (-0.5, constant, 1, 1)],
)
def test_correction_and_drift_are_those_of_the_closed_loop(
    gain: float, error: Error, correction: float, drift: float
) -> None:
    actor = proportional(gain)  # a(s') − a(s) = −gain·e, a_SNN(s') − a(s) = e' − gain·e
    made = lambda: Line(growth=0.5)  # noqa: E731
    found = means(consistency(actor, Erring(actor, error), made, episodes=3))  # pyright: ignore[reportArgumentType]
    assert found["correction"] == pytest.approx(correction, abs=1e-3)
    assert found["drift"] == pytest.approx(drift, abs=1e-3)
    assert found["error"] == pytest.approx(np.sqrt((0.02**2 + 0.01**2) / 2), rel=1e-3)
    assert found["changed"] == 1


class Leaning(Erring):
    """Err to and fro near the middle, where the ANN stays, but by a constant at first, and where that leads."""

    def step(self, obs: Any, state: int) -> Any:
        leaning = state < 3 or abs(obs).max() > 0.5
        return self.actor.step(obs, ())[0] + np.float32(0.4 if leaning else 0.4 * (-1) ** state), state + 1


def test_errors_that_are_consistent_only_where_they_lead_are_not_so_beside_the_ann() -> None:
    actor = proportional(0.5)
    found = means(consistency(actor, Leaning(actor, constant), Line, episodes=3))  # pyright: ignore[reportArgumentType]
    assert found["consistency"] == pytest.approx(1, abs=1e-4)
    assert found["beside_ann"] < -0.8


@pytest.mark.parametrize("gain", [0.5, 0.9, 0.0])
def test_a_policy_without_errors_has_no_directions_and_costs_nothing(gain: float) -> None:
    actor = proportional(gain)
    walks = walk(actor, actor, Line, episodes=2)
    directions = consistency(actor, actor, Line, walks=walks)
    assert np.isnan([means(directions)[name] for name in ("consistency", "correction", "drift")]).all()
    assert means(directions)["changed"] == means(directions)["error"] == 0
    costs = means(decomposition(actor, actor, Line, walks=walks))
    assert [costs[name] for name in ("policy", "states", "interaction", "length", "lost")] == [0] * 5
    assert means(divergence(actor, actor, Line, walks=walks))["snn"] == 0


def test_float32_rounding_is_no_error() -> None:
    actor = proportional(0.5)
    rounding = Erring(actor, lambda decision: 1e-9)
    found = means(consistency(actor, rounding, Line, episodes=1))  # pyright: ignore[reportArgumentType]
    assert found["error"] == 0
    assert np.isnan(found["consistency"])


def decomposed(reward: Callable[[Any, Any], float], gain: float, error: Error, **line: Any) -> dict[str, float]:
    actor = proportional(gain)
    made = lambda: Line(reward=reward, **line)  # noqa: E731
    return means(decomposition(actor, Erring(actor, error), made, episodes=4))  # pyright: ignore[reportArgumentType]


def test_where_only_the_action_is_rewarded_the_policy_alone_costs_everything() -> None:
    found = decomposed(lambda x, action: 1.0 - 10 * abs(action).sum(), 0.0, constant)
    assert found["policy"] == pytest.approx(30, abs=1e-3)
    assert found["lost"] == pytest.approx(30, abs=1e-3)
    assert abs(found["states"]) + abs(found["interaction"]) + abs(found["length"]) < 1e-9
    assert found["snn_in_ann"] == found["snn_in_snn"] == pytest.approx(0.7)


def test_where_only_the_state_is_rewarded_the_states_cost_everything() -> None:
    found = decomposed(lambda x, action: 1.0 - float(abs(x).sum()), 0.1, constant)
    assert found["policy"] == 0
    assert found["interaction"] == pytest.approx(0, abs=1e-9)
    assert found["states"] == pytest.approx(found["lost"])
    assert found["lost"] > 10


def test_where_falling_ends_an_episode_its_length_costs_everything() -> None:
    found = decomposed(lambda x, action: 1.0, 0.0, constant, edge=0.5)
    assert found["length"] == pytest.approx(found["lost"])
    assert found["lost"] == pytest.approx(100 * (1 - found["snn_length"] / found["ann_length"]))
    assert found["snn_length"] < 30
    assert abs(found["policy"]) + abs(found["states"]) + abs(found["interaction"]) < 1e-9


def rewards_by_hand(gain: float, error: Error, seed: int, acts: str) -> dict[str, list[float]]:
    """Follow one policy on a line that ends at 0.5; return the rewards of either policy's action where it goes."""
    x, found = np.float64(np.random.default_rng(seed).normal(size=2) / 10), dict[str, list[float]](ann=[], snn=[])
    for k in range(STEPS):
        ann = np.clip(-gain * x, -1, 1)
        actions = {"ann": ann, "snn": ann + error(k)}
        for name, action in actions.items():
            found[name].append(2.0 - float(abs(x).sum()) - 3 * abs(action).sum() - 5 * float(x @ action))
        x = x + actions[acts]
        if abs(x).max() > 0.5:
            break
    return found


@pytest.mark.parametrize(("gain", "error"), [(0.0, constant), (0.05, constant), (0.2, alternating), (0.1, white)])
def test_all_four_rewards_and_all_parts_are_those_computed_by_hand(gain: float, error: Error) -> None:
    made = lambda: Line(  # noqa: E731
        reward=lambda x, a: 2.0 - float(abs(x).sum()) - 3 * abs(a).sum() - 5 * float(x @ a), edge=0.5
    )
    actor = proportional(gain)
    found = decomposition(actor, Erring(actor, error), made, episodes=3)  # pyright: ignore[reportArgumentType]
    for episode in range(3):
        in_ann, in_snn = (rewards_by_hand(gain, error, episode, acts) for acts in ("ann", "snn"))
        assert found.ann_in_ann[episode] == pytest.approx(in_ann["ann"], abs=1e-5)
        assert found.snn_in_ann[episode] == pytest.approx(in_ann["snn"], abs=1e-5)
        assert found.ann_in_snn[episode] == pytest.approx(in_snn["ann"], abs=1e-5)
        assert found.snn_in_snn[episode] == pytest.approx(in_snn["snn"], abs=1e-5)
    mean = {name: np.array([r.mean() for r in getattr(found, name)]) for name in ("ann_in_ann", "snn_in_ann",
            "ann_in_snn", "snn_in_snn")}  # fmt: skip
    steps, fewer = len(found.ann_in_ann[0]), len(found.ann_in_ann[0]) - np.array([len(r) for r in found.snn_in_snn])
    size = abs((steps * mean["ann_in_ann"]).mean()) / 100
    costs = found.costs
    assert costs["policy"] == pytest.approx(steps * (mean["ann_in_ann"] - mean["snn_in_ann"]) / size)
    assert costs["states"] == pytest.approx(steps * (mean["ann_in_ann"] - mean["ann_in_snn"]) / size)
    assert costs["length"] == pytest.approx(fewer * mean["snn_in_snn"] / size)
    assert (fewer.max() > 0) == (error is constant and gain < 0.05)


@pytest.mark.parametrize("error", [constant, white, alternating])
def test_the_parts_add_up_to_what_the_conversion_loses(error: Error) -> None:
    found = decomposed(lambda x, action: 2.0 - float(x @ x) - 3 * abs(action).sum(), 0.2, error, edge=0.6)
    parts = sum(found[name] for name in ("policy", "states", "interaction", "length"))
    lost = 100 * (found["ann_return"] - found["snn_return"]) / abs(found["ann_return"])
    assert parts == pytest.approx(found["lost"]) == pytest.approx(lost)


def test_a_task_that_forgives_holds_states_together_and_one_that_does_not_parts_them() -> None:
    actor = proportional(0.0)
    policy: Any = Erring(actor, constant)
    apart = {growth: divergence(actor, policy, lambda growth=growth: Line(growth=growth), episodes=3)
             for growth in (0.5, 1.1)}  # fmt: skip
    for growth, found in apart.items():
        ratios = np.concatenate([distance[2:12] / distance[1:11] for distance in found.disturbed])
        assert ratios == pytest.approx(growth, rel=2e-3)
    assert apart[0.5].summary["snn_half_way"].mean < STEPS  # the start is forgotten, the constant error is not
    assert apart[1.1].snn[0][-1] > 20 * apart[1.1].snn[0][10]
    assert apart[0.5].snn[0][-1] < 2 * apart[0.5].snn[0][10]
    assert apart[1.1].snn[0][0] == apart[1.1].disturbed[0][0] == 0


@pytest.mark.parametrize("growth", [0.5, 1.0, 1.05])
def test_distances_are_in_spreads_of_the_anns_states_and_pair_the_same_decisions(growth: float) -> None:
    actor, made = proportional(0.0), lambda: Line(growth=growth)
    walks = walk(actor, Erring(actor, constant), made, episodes=3)  # pyright: ignore[reportArgumentType]
    found = divergence(actor, actor, made, walks=walks)
    seen = [episode.observations.astype(np.float64) for episode in walks.ann]
    spread = np.concatenate(seen).std(axis=0)
    for episode, (ann, snn) in enumerate(zip(seen, walks.snn, strict=True)):
        apart = np.sqrt((((ann - snn.observations) / spread) ** 2).mean(axis=1))
        assert found.snn[episode] == pytest.approx(apart, rel=1e-5)
        away = np.sqrt((((ann - seen[(episode + 1) % 3]) / spread) ** 2).mean(axis=1))
        assert found.unrelated[episode] == pytest.approx(away, rel=1e-5)


@pytest.mark.parametrize("episodes", [1, 2])
def test_half_way_to_unrelated_episodes_exists_only_where_there_are_some(episodes: int) -> None:
    actor = proportional(0.0)
    found = divergence(actor, Erring(actor, constant), Line, episodes)  # pyright: ignore[reportArgumentType]
    for name in ("snn_half_way", "disturbed_half_way", "unrelated"):
        assert np.isfinite(found.summary[name].mean) == (episodes > 1)


def test_a_task_that_adds_up_suffers_from_bias_most_and_from_alternation_least() -> None:
    actor = proportional(0.05)
    lost = means(sensitivity(actor, Line, episodes=6, size=0.02, gains=(0.5, 1.0)))
    for gain in ("0.5", "1.0"):
        kinds = [lost[f"{kind}@{gain}"] for kind in ("bias", "low_passed", "white", "alternating")]
        assert kinds == sorted(kinds, reverse=True)
        assert kinds[0] > 5 * kinds[2] > 0
    assert lost["none@1.0"] == 0
    assert set(lost) == {f"{kind}@{gain}" for kind in ("none", "bias", "white", "low_passed", "alternating")
                         for gain in ("0.5", "1.0")}  # fmt: skip


def test_a_task_that_forgets_does_not_care_which_error_it_is() -> None:
    actor = proportional(0.0)
    made = lambda: Line(growth=0.0)  # noqa: E731
    lost = means(sensitivity(actor, made, episodes=20, size=0.1, gains=(1.0,)))
    costs = [lost[f"{kind}@1.0"] for kind in ("bias", "low_passed", "white", "alternating")]
    assert max(costs) < 1.4 * min(costs)


@pytest.mark.parametrize(("gain", "lost"), [(0.5, 20.0), (1.0, 0.0), (1.5, -20.0), (3.0, -60.0)])
def test_a_gain_scales_the_action_about_the_middle_of_its_range_and_within_it(gain: float, lost: float) -> None:
    actor = Actor([linear(np.zeros((2, 2)), [0.4, 0.4])], Head.clip(-np.ones(2), np.ones(2)), (2,))
    made = lambda: Line(reward=lambda x, action: float(action.mean() + 0.6))  # noqa: E731
    found = means(sensitivity(actor, made, episodes=2, size=0.0, gains=(gain,)))
    assert found[f"none@{gain}"] == pytest.approx(lost, abs=1e-4)
    assert found[f"white@{gain}"] == found[f"bias@{gain}"] == 0  # of size 0, and compared at the same gain


@pytest.mark.parametrize("kind", ["bias", "white", "low_passed", "alternating"])
def test_disturbances_of_every_kind_have_the_asked_power(kind: str) -> None:
    actor, taken = proportional(0.0), list[Any]()

    def reward(x: Any, action: Any) -> float:
        taken.append(action)
        return 1.0

    sensitivity(actor, lambda: Line(reward=reward), episodes=30, size=0.1, kinds=(kind,), gains=(1.0,))
    disturbed = np.array(taken[30 * STEPS :])
    assert np.sqrt(np.mean(disturbed**2)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("pink",)}, "kinds"),
        ({"gains": (0.0,)}, "gains"),
        ({"size": -1.0}, "size"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"episodes": 0}, "episodes"),
    ],
)
def test_disturbances_that_are_none_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sensitivity(proportional(0.1), Line, **options)


def random_actor(inputs: int, head: Head) -> Actor:
    random = np.random.default_rng(0)
    layers = [linear(random.normal(size=(16, inputs)), random.normal(size=16), RELU),
              linear(random.normal(size=(head.outputs, 16)) / 20, np.zeros(head.outputs))]  # fmt: skip
    return Actor(layers, head, (inputs,))


@pytest.mark.parametrize("options", [{}, {"neuron": "if", "timesteps": 4, "alpha": 1.0}, {"tolerance": 0.1}])
def test_walks_leave_the_policys_memory_alone_and_see_what_it_does_by_itself(options: Any) -> None:
    actor = random_actor(3, Head.tanh([2.0], [0.0]))
    policy = convert(actor, actor.collect("Pendulum-v1", 300), **options)
    policy.act(np.ones(3))
    before, decisions = policy.state, policy.counters.decisions.copy()
    walks = walk(actor, policy, "Pendulum-v1", episodes=2, seed=5, decisions=50)
    assert all(np.array_equal(one, other) for one, other in zip(before, policy.state, strict=True))
    assert np.array_equal(policy.counters.decisions, decisions)
    for acting, episodes in ((policy, walks.snn), (actor, walks.ann)):
        env = gym.make("Pendulum-v1")
        for number, episode in enumerate(episodes):
            acting.reset()
            obs, rewards = env.reset(seed=5 + number)[0], []
            for _ in range(50):
                obs, reward, *_ = env.step(acting.act(obs))
                rewards.append(reward)
            assert rewards == (episode.snn_rewards if acting is policy else episode.ann_rewards).tolist()


class Swaying(gym.Env):
    """Mix what was seen and done before; for the actors of `stage_graphs`."""

    observation_space = spaces.Box(-np.inf, np.inf, (INPUTS,), np.float32)

    def __init__(self, actor: Actor) -> None:
        self.action_space = spaces.Box(actor.low, actor.high)
        self.mixing = np.random.default_rng(1).normal(size=(INPUTS, INPUTS + 3)) / 5

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.normal(size=INPUTS), 0
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.x = self.mixing @ np.concatenate([self.x, np.ravel(action)]) + self.np_random.normal(size=INPUTS)
        return self.x.astype(np.float32), float(self.x[0]), False, self.steps == 40, {}


@pytest.mark.parametrize("kind", ["lstm", "gru", "elman", "residual"])
def test_walks_carry_the_memories_of_recurrent_policies_along_what_each_has_seen(kind: str) -> None:
    actor = graph_actor(kind)
    made = lambda: Swaying(actor)  # noqa: E731
    policy = convert(actor, actor.collect(made, 400))
    walks = walk(actor, policy, made, episodes=2, seed=3)
    for acting, watching, episodes in ((policy, actor, walks.snn), (actor, policy, walks.ann)):
        for number, episode in enumerate(episodes):
            acting.reset()
            watching.reset()
            env = made()
            obs = env.reset(seed=3 + number)[0]
            for k in range(40):
                done, watched = acting.act(obs), watching.act(obs)
                mine, other = (episode.snn, episode.ann) if acting is policy else (episode.ann, episode.snn)
                assert np.array_equal(mine[k], done)
                assert np.array_equal(other[k], watched)
                obs = env.step(done)[0]


def test_errors_of_choices_are_those_of_the_values_without_what_all_choices_share() -> None:
    actor = random_actor(4, Head.argmax(2))
    policy = convert(actor, actor.collect("CartPole-v1", 300), neuron="if", timesteps=4, threshold="max")
    walks = walk(actor, policy, "CartPole-v1", episodes=4)
    for episode in (*walks.snn, *walks.ann):
        assert episode.errors.sum(axis=1) == pytest.approx(0, abs=1e-5)
        assert np.array_equal(episode.changed, (episode.snn.argmax(axis=1) != episode.ann.argmax(axis=1)))
    found = consistency(actor, policy, "CartPole-v1", walks=walks)
    for corrected, changed in zip(found.correction, found.changed, strict=True):
        assert np.isnan(corrected[changed == 0]).all()
    with pytest.raises(TypeError, match=r"Erring.*does not show the values"):
        walk(actor, Erring(actor, constant), "CartPole-v1")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("options", [{"episodes": 0}, {"seed": -1}, {"decisions": 1}, {"episodes": 2.5}])
def test_walks_of_no_episodes_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a whole number"):
        walk(proportional(0.1), proportional(0.1), Line, **options)
