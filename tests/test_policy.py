"""SpikingPolicy's memory: reset, masks, batch sizes, `active`, `step`, `state`; the same under every engine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy import Actor, Policy, SpikingPolicy, convert
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    HEAD_KINDS,
    HEADS_AND_ACTIVATIONS,
    KINDS,
    dyadic_actor,
    dyadic_observations,
    membrane_neurons,
    policies,
    random_actor,
    same_state,
    sigma_delta_neurons,
    walk,
)
from tests.stage_graphs import graph_actor

ENGINES = ("numpy", "event")
ROWS = 3


@pytest.fixture(params=[f"{kind}/{engine}" for kind in KINDS for engine in ENGINES])
def policy(request: Any) -> SpikingPolicy:
    kind, engine = request.param.split("/")
    return policies(engine)[kind]


def batches(decisions: int = 12, rows: int = ROWS) -> Any:
    return dyadic_observations(decisions * rows, seed=5).reshape(decisions, rows, 4)


def alone(policy: SpikingPolicy, observations: Any) -> tuple[Any, Any]:
    """Actions and final state of a fresh single-row run."""
    twin = SpikingPolicy(policy.network, engine="numpy")
    actions = [twin.act(obs) for obs in observations]
    return np.array(actions), twin.state


def row(state: Any, index: int) -> Any:
    return type(state)(*(memory[index : index + 1] for memory in state))


def same_memory(first: Any, second: Any) -> bool:
    """Equality of what is remembered; `age`, the engines' own bookkeeping, may differ between engines."""
    names = [name for name in first._fields if name != "age"]
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_every_policy_offers_the_protocol(policy: SpikingPolicy) -> None:
    assert isinstance(policy, Policy)
    assert isinstance(policy.actor, Policy)


def test_membranes_matter_from_one_decision_to_the_next(policy: SpikingPolicy) -> None:
    observations = dyadic_observations(60)
    fresh = []
    for obs in observations:
        policy.reset()
        fresh.append(policy.act(obs))
    policy.reset()
    assert not np.array_equal([policy.act(obs) for obs in observations], fresh)


def test_a_batch_of_n_is_n_batches_of_one(policy: SpikingPolicy) -> None:
    observations = batches()
    actions = np.array([policy.act(obs) for obs in observations])
    for index in range(ROWS):
        expected, state = alone(policy, observations[:, index])
        assert np.array_equal(actions[:, index], expected)
        assert same_memory(row(policy.state, index), state)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("activation", "kind"), HEADS_AND_ACTIVATIONS, ids=lambda value: getattr(value, "name", value))
def test_a_batch_of_n_is_n_batches_of_one_on_real_weights(activation: Any, kind: Any, engine: str) -> None:
    actor = random_actor(activation=activation, kind=kind, normalised=True)
    observations = walk(200).reshape(40, 5, 11)
    policy = convert(actor, walk(300), engine=engine)
    single = [SpikingPolicy(policy.network, engine=engine) for _ in range(5)]
    for batch in observations:
        expected = [one.act(obs) for one, obs in zip(single, batch, strict=True)]
        assert np.array_equal(policy.act(batch), expected)
    assert all(same_state(row(policy.state, i), one.state) for i, one in enumerate(single))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", ["if", "snm", "mt"])
@pytest.mark.parametrize("coding", ["rate", "differential"])
def test_a_batch_of_n_is_n_batches_of_one_for_membranes_on_real_weights(model: str, coding: str, engine: str) -> None:
    policy = convert(random_actor(), walk(300), neuron=model, coding=coding, timesteps=7, engine=engine)
    single = [SpikingPolicy(policy.network, engine=engine) for _ in range(5)]
    for batch in walk(200).reshape(40, 5, 11):
        expected = [one.act(obs) for one, obs in zip(single, batch, strict=True)]
        assert np.array_equal(policy.act(batch), expected)
    assert all(same_state(row(policy.state, i), one.state) for i, one in enumerate(single))


def test_a_masked_reset_clears_those_rows_and_no_others(policy: SpikingPolicy) -> None:
    observations = batches()
    actions = []
    for step, obs in enumerate(observations):
        if step == 5:
            policy.reset(np.array([False, True, False]))
            assert policy.counters.decisions.tolist() == [5, 0, 5]
        actions.append(policy.act(obs))
    for index, start in enumerate((0, 5, 0)):
        expected, state = alone(policy, observations[start:, index])
        assert np.array_equal(np.array(actions)[start:, index], expected)
        assert same_memory(row(policy.state, index), state)
    assert policy.counters.decisions.tolist() == [12, 7, 12]


@settings(max_examples=25)
@given(data=st.data(), kind=st.sampled_from(KINDS), engine=st.sampled_from(ENGINES))
def test_no_sequence_of_masks_and_active_rows_leaks_between_rows(data: Any, kind: str, engine: str) -> None:
    policy, observations = policies(engine)[kind], batches(8)
    histories: list[list[Any]] = [[] for _ in range(ROWS)]
    policy.reset(num_envs=ROWS)
    rows = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS)
    for obs in observations:
        cleared, active = np.array(data.draw(rows)), np.array(data.draw(rows))
        policy.reset(cleared)
        policy.act(obs, active=active)
        for index in range(ROWS):
            histories[index] = [] if cleared[index] else histories[index]
            histories[index] += [obs[index]] if active[index] else []
    assert policy.counters.decisions.tolist() == [len(one) for one in histories]
    for index, history in enumerate(histories):
        expected = alone(policy, history)[1]
        assert same_memory(row(policy.state, index), expected)


def test_inactive_rows_get_an_action_but_neither_advance_nor_count(policy: SpikingPolicy) -> None:
    first, second = batches(2)
    policy.act(first)
    before = policy.state
    expected = policy.step(second, before)[0]
    actions = policy.act(second, active=np.array([True, False, True]))
    assert np.array_equal(actions, expected)
    assert policy.counters.decisions.tolist() == [2, 1, 2]
    assert same_memory(row(policy.state, 1), row(before, 1))


def test_step_is_pure_and_equals_act(policy: SpikingPolicy) -> None:
    observations, state = batches(), policy.initial_state(ROWS)
    expected: Any = None
    for obs in observations:
        kept = type(state)(*(memory.copy() for memory in state))
        expected, after = policy.step(obs, state)
        assert same_state(state, kept)
        assert policy.counters.decisions.sum() == 0
        state = after
    actions = np.array([policy.act(obs) for obs in observations])
    assert np.array_equal(actions[-1], expected)
    assert same_memory(policy.state, state)


def test_a_stored_state_resumes_to_the_bit(policy: SpikingPolicy) -> None:
    observations = batches()
    for obs in observations[:6]:
        policy.act(obs)
    stored = policy.state
    first = [policy.act(obs) for obs in observations[6:]]
    ends = policy.state
    fresh = SpikingPolicy(policy.network, engine=policy.engine)
    for one in (policy, fresh):
        one.state = stored
        assert np.array_equal([one.act(obs) for obs in observations[6:]], first)
        assert same_state(one.state, ends)


def test_the_state_is_a_copy_both_ways(policy: SpikingPolicy) -> None:
    policy.act(batches()[0])
    taken = policy.state
    for element in taken:
        element[:] = 7
    assert not same_state(policy.state, taken)
    policy.state = taken
    for element in taken:
        element[:] = 9
    assert all((memory == 7).all() for memory in policy.state)


def test_a_fresh_or_reset_policy_adopts_any_batch_size(policy: SpikingPolicy) -> None:
    for rows in (2, 5, 1):
        assert policy.act(batches(1, rows)[0]).shape == (rows, 2)
        policy.reset()
    assert policy.act(batches(1, 1)[0, 0]).shape == (2,)


def test_another_batch_size_is_an_error_until_reset(policy: SpikingPolicy) -> None:
    policy.act(batches(1, 2)[0])
    before = policy.state
    with pytest.raises(ValueError, match=r"a batch of 3, but .* 2 environment"):
        policy.act(batches(1, 3)[0])
    assert same_state(policy.state, before)
    policy.reset(num_envs=3)
    with pytest.raises(ValueError, match="a batch of 2"):
        policy.act(batches(1, 2)[0])
    assert policy.act(batches(1, 3)[0]).shape == (3, 2)


def test_the_engines_agree_and_may_change_between_two_decisions() -> None:
    pytest.importorskip("torch")
    for kind in KINDS:
        alike = [policies(engine)[kind] for engine in ("numpy", "torch", "event")]
        travelling = alike[0].state
        for step, obs in enumerate(batches(9)):
            actions = [one.act(obs) for one in alike]
            assert all(np.array_equal(actions[0], action) for action in actions[1:])
            mixed, travelling = alike[step % 3].step(obs, travelling if step else alike[0].initial_state(ROWS))
            assert np.array_equal(mixed, actions[0])
        spikes = [one.counters.spikes for one in alike]
        assert spikes[0].sum() > 0
        assert all(np.array_equal(spikes[0], spike) for spike in spikes[1:])
        assert all(same_memory(alike[0].state, one.state) for one in alike[1:])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(HEAD_KINDS),
    scale=st.sampled_from([0.01, 1.0, 100.0, 1e6]),
    membrane=st.booleans(),
    engine=st.sampled_from(ENGINES),
)
def test_actions_are_always_within_their_bounds(
    seed: int, kind: Any, scale: float, membrane: bool, engine: str
) -> None:
    actor = random_actor(seed, kind=kind, widths=(9, 7))
    neurons = membrane_neurons(actor) if membrane else sigma_delta_neurons(actor)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine=engine)
    for obs in walk(20, seed=seed).reshape(5, 4, 11) * np.float32(scale):
        for one in (policy, actor):
            actions = one.act(obs)
            assert actions.shape == (4, *actor.action_shape)
            assert actions.dtype == (np.int64 if actor.discrete else np.float32)
            assert (actions >= policy.low).all()
            assert (actions <= policy.high).all()


def test_counters_and_last_decision_say_what_a_decision_cost(policy: SpikingPolicy) -> None:
    total = 0
    for obs in batches():
        policy.act(obs)
        decision = policy.last_decision
        assert decision is not None
        layers = policy.actor.layers[-decision.spikes.shape[1] :]
        least, most = (np.array([bound(layer.fan_out) for layer in layers]) for bound in (np.min, np.max))
        assert (decision.spikes @ least <= decision.synaptic_operations).all()
        assert (decision.synaptic_operations <= decision.spikes @ most).all()
        assert decision.spikes.shape == (ROWS, len(policy.layer_names))
        total = total + decision.spikes
    assert np.array_equal(policy.counters.spikes, total)
    analog = 0 if "observation" in policy.layer_names else 12 * policy.actor.layers[0].synapses
    assert policy.counters.multiply_accumulates.tolist() == [analog] * ROWS
    picojoules = 4.6 * policy.counters.multiply_accumulates + 0.9 * policy.counters.synaptic_operations
    assert np.allclose(policy.counters.energy, picojoules / 1000)


def test_an_actor_counts_and_resets_rows_as_a_policy_does() -> None:
    actor: Actor = dyadic_actor()
    for obs in batches(4):
        actor.act(obs, active=np.array([True, False, True]))
    actor.reset(np.array([True, False, False]))
    assert actor.counters.decisions.tolist() == [0, 0, 4]
    with pytest.raises(ValueError, match="active"):
        actor.act(batches(1)[0], active=np.array([True]))


@pytest.mark.parametrize(
    "make",
    [dyadic_actor, lambda: policies("event")["sigma-delta"], lambda: graph_actor("gru")],
    ids=["actor", "spiking", "gru"],
)
def test_a_mask_and_a_number_of_rows_together_are_refused_and_nothing_is_forgotten(make: Any) -> None:
    acting = make()
    obs = np.zeros((3, *acting.observation_shape), np.float32)
    acting.act(obs)
    with pytest.raises(ValueError, match="a mask or num_envs, not both"):
        acting.reset(np.array([True, False, False]), num_envs=3)
    assert acting.counters.decisions.tolist() == [1, 1, 1]
