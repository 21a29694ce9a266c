"""Bad input to a policy: one clear ValueError each, and the memory is left as it was."""

from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy
from snn_policy.protocol import as_batch
from tests.actors import KINDS, dyadic_observations, policies, same_state

OBS = dyadic_observations(3)


def with_value(value: float) -> Any:
    obs = OBS.copy()
    obs[1, 2] = value
    return obs


BAD_OBSERVATIONS: dict[str, Any] = {
    "too many features": np.zeros(5),
    "too few features": np.zeros(3),
    "three axes": np.zeros((2, 3, 4)),
    "a scalar": 1.0,
    "an empty batch": np.zeros((0, 4)),
    "nan": with_value(np.nan),
    "inf": with_value(np.inf),
    "-inf": with_value(-np.inf),
    "too large for float32": OBS.astype(np.float64) + 1e300,
    "strings": ["a", "b", "c", "d"],
    "a string": "abcd",
    "none": None,
    "a dict": {"obs": [0, 0, 0, 0]},
    "ragged": [[1, 2, 3, 4], [1, 2]],
    "complex": np.zeros(4, complex),
    "objects": np.array([1, None, 2, 3], object),
    "dates": np.zeros(4, "datetime64[s]"),
    "another batch size": OBS[:2],
}


@pytest.fixture(params=[f"{kind}/{engine}" for kind in ("sigma-delta", "if-rate") for engine in ("numpy", "event")])
def policy(request: Any) -> SpikingPolicy:
    kind, engine = request.param.split("/")
    policy = policies(engine)[kind]
    policy.act(OBS)
    policy.act(OBS)
    return policy


@pytest.mark.parametrize("name", BAD_OBSERVATIONS)
def test_a_bad_observation_is_one_value_error_and_changes_nothing(policy: SpikingPolicy, name: str) -> None:
    before, counted = policy.state, policy.counters.decisions.tolist()
    calls: list[Any] = [
        lambda bad: policy.act(bad),
        lambda bad: policy.act(bad, active=np.array([True, False, True])),
        lambda bad: policy.predict(bad),
        lambda bad: policy.predict(bad, state=before),
        lambda bad: policy.step(bad, before),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\w"):
            call(BAD_OBSERVATIONS[name])
        assert same_state(policy.state, before)
        assert policy.counters.decisions.tolist() == counted
    policy.act(OBS)


def test_the_message_says_what_and_where(policy: SpikingPolicy) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(4,\) or \(N, \*\(4,\)\), got \(5,\)"):
        policy.act(np.zeros(5))
    with pytest.raises(ValueError, match=r"index \(1, 2\): nan"):
        policy.act(with_value(np.nan))
    with pytest.raises(ValueError, match="dtype <U1"):
        policy.act(["a", "b", "c", "d"])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, np.bool_])
def test_any_real_dtype_is_accepted(dtype: Any) -> None:
    obs = np.array([[1, 0, 2, 1]]).astype(dtype)
    for kind in KINDS:
        first, second = policies("event")[kind], policies("numpy")[kind]
        assert np.array_equal(first.act(obs), second.act(obs.astype(np.float32)))
        assert np.array_equal(first.act(obs.tolist()), second.act(obs.astype(np.float32)))


def test_a_strided_observation_acts_as_its_copy(policy: SpikingPolicy) -> None:
    wide = np.repeat(dyadic_observations(6), 2, axis=1)[::2, ::2]
    turned = np.asfortranarray(wide)
    before = policy.state
    for view in (wide, turned):
        policy.state = before
        assert np.array_equal(policy.act(view), policy.step(wide.copy(), before)[0])


BAD_MASKS: dict[str, Any] = {
    "integers": np.array([0, 1, 0]),
    "too short": np.array([True, False]),
    "too long": np.ones(4, bool),
    "two axes": np.ones((3, 1), bool),
    "a scalar": True,
    "strings": ["a", "b", "c"],
    "empty": np.zeros(0, bool),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_bad_mask_is_one_value_error_and_changes_nothing(policy: SpikingPolicy, name: str) -> None:
    mask, before = BAD_MASKS[name], policy.state
    with pytest.raises(ValueError, match="mask: expected booleans"):
        policy.reset(mask)
    with pytest.raises(ValueError, match="active: expected booleans"):
        policy.act(OBS, active=mask)
    with pytest.raises(ValueError, match="episode_start: expected booleans"):
        policy.predict(OBS, episode_start=mask)
    assert same_state(policy.state, before)
    assert policy.counters.decisions.tolist() == [2, 2, 2]


def test_an_empty_mask_never_makes_a_policy_of_no_rows() -> None:
    fresh = policies()["if-rate"]
    with pytest.raises(ValueError, match="mask"):
        fresh.reset(np.zeros(0, bool))


@pytest.mark.parametrize(
    "arguments", [{"num_envs": 0}, {"num_envs": -1}, {"mask": np.ones(3, bool), "num_envs": 3}], ids=str
)
def test_contradicting_resets_are_refused(policy: SpikingPolicy, arguments: dict[str, Any]) -> None:
    before = policy.state
    with pytest.raises(ValueError, match="num_envs"):
        policy.reset(**arguments)
    assert same_state(policy.state, before)


def bad_states(state: Any) -> dict[str, Any]:
    first, rest = state[0], tuple(state[1:])
    return {
        "no tuple": first,
        "a number": 5,
        "a text": "state",
        "a dict": {"memory": first},
        "none": None,
        "empty": (),
        "too many arrays": (*state, first),
        "a scalar inside": (0.0, *rest),
        "another width": (first[:, :-1], *rest),
        "another number of rows": (first[:2], *rest, first) if not rest else (first[:2], *rest),
        "no rows": tuple(memory[:0] for memory in state),
        "nan": (first * np.nan, *rest),
        "inf": (first + np.inf, *rest),
        "text inside": (np.full(first.shape, "x"), *rest),
        "none inside": (None, *rest),
    }


@pytest.mark.parametrize("name", bad_states((OBS, OBS)))
def test_a_bad_state_is_one_value_error_and_changes_nothing(policy: SpikingPolicy, name: str) -> None:
    before = policy.state
    bad = bad_states(before)[name]
    with pytest.raises(ValueError, match="state"):
        policy.state = bad
    with pytest.raises(ValueError, match="state"):
        policy.step(OBS, bad)
    if name != "none":
        with pytest.raises(ValueError, match="state"):
            policy.predict(OBS, state=bad)
    assert same_state(policy.state, before)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((84, 84, 9), r"channel-first, \(9, 84, 84\)$"), ((5, 84, 84, 9), "channel-first"),
        ((3, 84, 84), "3 frames must be stacked along the channels$"), ((3, 3, 84, 84), "3 frames must be stacked"),
        ((84, 84, 3), "channel-first.* 3 frames must be stacked"), ((9, 64, 64), "resized to 84 × 84 pixels"),
        ((84, 84), r"got \(84, 84\)$"), ((4, 84, 84), r"got \(4, 84, 84\)$"), ((9 * 84 * 84,), r"got \(63504,\)$"),
    ],
)  # fmt: skip
def test_images_of_another_shape_are_refused_with_the_probable_reason(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(9, 84, 84\) or .*" + hint):
        as_batch(np.zeros(shape, np.uint8), (9, 84, 84))
