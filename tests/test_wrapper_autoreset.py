"""What a vector environment declares about its resets, what it does, and what is said where the two differ."""

import enum
import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import DictInfoToList
from marker_env import MODES, MarkerEnv, RecordingPolicy, assert_fresh, make_vector

from snn_policy.wrappers import SpikingPolicyVectorEval


class Foreign(enum.Enum):
    """Another library's enumeration."""

    SAME_STEP = 2


class Numbered(enum.Enum):
    IMMEDIATE = "SameStep"


class Declaring(VectorWrapper):
    """Marker environments in some mode, with other metadata and other infos."""

    def __init__(self, mode: AutoresetMode, metadata: Any, infos: Any = lambda infos: infos) -> None:
        super().__init__(make_vector(SyncVectorEnv, mode, lengths=(2, 3, 2)))
        self.env.metadata = metadata
        self.infos = infos

    def step(self, actions: Any) -> Any:
        *given, infos = super().step(actions)
        return *given, self.infos(infos)


def wrapped(mode: AutoresetMode, metadata: Any, infos: Any = lambda infos: infos) -> tuple[Any, list[str]]:
    """The wrapper, and what it warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        envs = SpikingPolicyVectorEval(Declaring(mode, metadata, infos), RecordingPolicy())
    return envs, [str(warning.message) for warning in heard]


def run(envs: Any, steps: int = 12) -> Any:
    obs, infos = envs.reset()[0], None
    for _ in range(steps):
        obs, _, _, _, infos = envs.step(envs.act(obs))
        assert_fresh(envs.policy, obs)
    return infos


@pytest.mark.parametrize("metadata", [{}, None, {"render_fps": 30}, {"autoreset_mode": None}, "nothing"])
def test_an_undeclared_mode_is_taken_for_the_default_with_a_warning(metadata):
    envs, heard = wrapped(AutoresetMode.NEXT_STEP, metadata)
    assert envs.autoreset_mode == AutoresetMode.NEXT_STEP
    assert len(heard) == 1
    assert "does not declare" in heard[0]
    assert "NEXT_STEP" in heard[0]
    assert "AutoresetMode.SAME_STEP" in heard[0]  # the remedy
    run(envs)


def test_the_warning_points_at_the_users_line():
    with pytest.warns(UserWarning, match="does not declare") as heard:
        SpikingPolicyVectorEval(Declaring(AutoresetMode.NEXT_STEP, {}), RecordingPolicy())
    assert heard[0].filename == __file__


@pytest.mark.parametrize(
    "said",
    [AutoresetMode.SAME_STEP, "SameStep", "SAME_STEP", "same_step", "same-step", "AutoresetMode.SAME_STEP", Foreign(2),
     Numbered("SameStep")],
)  # fmt: skip
def test_a_mode_may_be_declared_as_a_member_or_as_text(said):
    envs, heard = wrapped(AutoresetMode.SAME_STEP, {"autoreset_mode": said})
    assert (envs.autoreset_mode, heard) == (AutoresetMode.SAME_STEP, [])
    run(envs)


@pytest.mark.parametrize("said", ["sometimes", 3, True])
def test_a_mode_that_does_not_exist_is_refused(said):
    with pytest.raises(ValueError, match=r"autoreset_mode.* expected AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP"):
        wrapped(AutoresetMode.NEXT_STEP, {"autoreset_mode": said})


def test_metadata_of_wrappers_is_read_from_the_outside_in():
    inner = make_vector(SyncVectorEnv, AutoresetMode.SAME_STEP)
    silent = VectorWrapper(inner)
    silent.metadata = {"render_fps": 30}
    assert SpikingPolicyVectorEval(silent, RecordingPolicy()).autoreset_mode == AutoresetMode.SAME_STEP
    outer = VectorWrapper(silent)
    outer.metadata = {"autoreset_mode": "Disabled"}
    assert SpikingPolicyVectorEval(outer, RecordingPolicy()).autoreset_mode == AutoresetMode.DISABLED


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", MODES)
def test_gymnasiums_own_environments_are_taken_at_their_word_without_one(kind, mode, recwarn):
    envs = SpikingPolicyVectorEval(make_vector(kind, mode, lengths=(3,)), RecordingPolicy())
    obs, _ = envs.reset()
    for _ in range(7):
        obs, _, terminated, truncated, _ = envs.step(envs.act(obs))
        if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
            obs, _ = envs.reset(options={"reset_mask": terminated | truncated})
    envs.close()
    assert [warning for warning in recwarn if "autoreset" in str(warning.message)] == []


def renamed(infos: Any) -> Any:
    return {name.replace("final_obs", "final_observation"): value for name, value in infos.items()}


def unmasked(infos: Any) -> Any:
    return {name: value for name, value in infos.items() if not name.startswith("_")}


def stacked(infos: Any) -> Any:
    """As simulators give it: one array of all rows, whichever are over."""
    return {"final_obs": np.ones((3, 4), np.float32)}


def per_row(infos: Any) -> Any:
    return [
        {"final_obs": infos["final_obs"][row]} if "final_obs" in infos and infos["_final_obs"][row] else {}
        for row in range(3)
    ]


@pytest.mark.parametrize("form", [dict, renamed, unmasked, stacked, per_row])
@pytest.mark.parametrize("metadata", [{}, None, {"autoreset_mode": AutoresetMode.NEXT_STEP}])
def test_last_observations_in_another_mode_are_an_error_that_names_both_readings(form, metadata):
    envs, _ = wrapped(AutoresetMode.SAME_STEP, metadata, form)
    with pytest.raises(ValueError, match=r"rows \[\d.* final_obs") as caught:
        run(envs)
    for said in ("NEXT_STEP", "AutoresetMode.SAME_STEP} before wrapping", "or it does not"):
        assert said in str(caught.value)


@pytest.mark.parametrize("form", [dict, renamed, unmasked, stacked, per_row])
def test_last_observations_are_understood_in_every_form_where_they_are_due(form):
    run(wrapped(AutoresetMode.SAME_STEP, {"autoreset_mode": "SameStep"}, form)[0])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("form", [lambda _: {}, lambda _: None, lambda _: {"elapsed_step": np.zeros(3)}])
def test_missing_last_observations_are_an_error_in_same_step_mode(mode, form):
    envs, _ = wrapped(mode, {"autoreset_mode": AutoresetMode.SAME_STEP}, form)
    with pytest.raises(ValueError, match=r"lack their last observations \(final_obs\)") as caught:
        run(envs)
    assert "AutoresetMode.NEXT_STEP} before wrapping" in str(caught.value)


def test_a_last_observation_of_one_row_does_not_stand_for_another():
    def of_row_0(infos: Any) -> Any:
        return {**infos, "_final_obs": np.array([True, False, False])} if "final_obs" in infos else infos

    envs, _ = wrapped(AutoresetMode.SAME_STEP, {"autoreset_mode": AutoresetMode.SAME_STEP}, of_row_0)
    with pytest.raises(ValueError, match=r"rows \[[12]"):
        run(envs)


def test_an_empty_mask_is_no_last_observation():
    def none_yet(infos: Any) -> Any:
        return {**infos, "final_obs": np.zeros((3, 4)), "_final_obs": np.zeros(3, bool)}

    run(wrapped(AutoresetMode.NEXT_STEP, {}, none_yet)[0])


def test_nested_infos_as_environment_pools_give_them_pass_through():
    def pool(infos: Any) -> Any:
        return {"env_id": np.arange(3), "players": {"env_id": np.arange(3)}, "elapsed_step": np.ones(3, np.int32)}

    infos = run(wrapped(AutoresetMode.NEXT_STEP, None, pool)[0])
    assert infos["players"]["env_id"].tolist() == [0, 1, 2]
    assert infos["snn"]["spikes"].shape == (3, 2)


def test_one_dictionary_per_row_gets_the_reports_of_that_row():
    inside = SpikingPolicyVectorEval(DictInfoToList(make_vector(lengths=(1, 2, 3))), RecordingPolicy())
    obs, _ = inside.reset()
    infos: Any = inside.step(inside.act(obs))[4]
    assert infos[0]["snn"]["episode"]["length"] == 1
    assert infos[0]["snn"]["episode"]["spikes"].tolist() == [0, 1]
    assert "episode" not in infos[1]["snn"]
    assert infos[1]["snn"]["synaptic_operations"] == 10
    infos = inside.step(inside.act(obs))[4]
    assert infos[0]["snn"] == {}  # it only replays a reset


class Simulator(VectorEnv):
    """Rows that reset in the same step and say so nowhere; one buffer, changed in place."""

    metadata: Any = None

    def __init__(self) -> None:
        single = MarkerEnv()
        self.num_envs = 2
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.buffer = np.zeros((2, 4), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = 0
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, actions: Any) -> Any:
        self.t += 1
        over = np.full(2, self.t % 3 == 0)
        self.buffer += 1
        infos = {"final_observation": self.buffer.copy()} if over.any() else {}
        return self.buffer, np.ones(2), over, np.zeros(2, bool), infos


def test_a_simulator_without_metadata_is_warned_of_and_then_found_out():
    with pytest.warns(UserWarning, match="Simulator does not declare"):
        envs = SpikingPolicyVectorEval(Simulator(), RecordingPolicy())
    obs, _ = envs.reset()
    for _ in range(2):
        envs.step(envs.act(obs))
    with pytest.raises(ValueError, match=r"Simulator, rows \[0, 1\]: infos hold their last observations"):
        envs.step(envs.act(obs))
