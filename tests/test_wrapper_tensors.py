"""Environments that give tensors: the same numbers as with NumPy's arrays, and one line for other devices."""

from typing import Any

import gymnasium as gym
import gymnasium.wrappers.vector as vector
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import NumpyToTorch
from marker_env import MarkerEnv, RecordingPolicy, dyadic_actor, make_vector, spiking_policies

from snn_policy.evaluation.evaluate import evaluate
from snn_policy.observations import ArrayForm, host_array
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval

torch = pytest.importorskip("torch")
MAKERS: dict[str, Any] = {"recording": RecordingPolicy, "ann": dyadic_actor, **spiking_policies()}


class Simulator(VectorEnv):
    """As simulators on accelerators are: tensors in and out, resets in the same step; counts its steps."""

    def __init__(self, device: str = "cpu", grad: bool = False, dtype: Any = None) -> None:
        single = MarkerEnv()
        self.num_envs, self.device, self.grad, self.dtype = 2, device, grad, dtype or torch.float32
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space, self.action_space = (
            batch_space(case, 2) for case in (single.observation_space, single.action_space)
        )
        self.steps = 0

    def _obs(self) -> Any:
        self.x = torch.full((2, 4), float(self.steps), device=self.device, dtype=self.dtype)
        return self.x.requires_grad_() if self.grad else self.x

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.steps = 0
        return self._obs(), {}

    def step(self, actions: Any) -> Any:
        assert isinstance(actions, torch.Tensor)
        assert (actions.shape, actions.dtype) == ((2, 2), torch.float32)
        self.steps += 1
        over = torch.full((2,), self.steps % 3 == 0)
        infos = {"final_obs": self.x, "_final_obs": over} if over.any() else {}
        return self._obs(), actions.sum(dim=1) + 1, over, torch.zeros(2, dtype=torch.bool), infos


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])  # NumpyToTorch fails in SAME_STEP
def test_vector_environments_of_tensors_give_what_arrays_give(name, mode):
    def reports(wrap: Any) -> list[Any]:
        envs, found = SpikingPolicyVectorEval(wrap(make_vector(mode=mode)), MAKERS[name]()), []
        obs, _ = envs.reset(seed=0)
        for _ in range(15):
            actions = envs.act(obs)
            obs, rewards, terminated, truncated, infos = envs.step(actions)
            assert isinstance(obs, type(actions))
            found.append((np.asarray(actions).tolist(), np.asarray(rewards).tolist(), infos["snn"]["spikes"].tolist()))
            over = np.logical_or(np.asarray(terminated), np.asarray(truncated))
            if mode == AutoresetMode.DISABLED and over.any():
                obs, _ = envs.reset(options={"reset_mask": over})
        return found

    assert reports(vector.NumpyToTorch) == reports(lambda envs: envs)


def test_evaluate_gives_the_same_episodes_through_tensors():
    found, expected = (
        SpikingPolicyVectorEval(wrap(make_vector(seeded=True)), RecordingPolicy()).evaluate(7, seed=4)
        for wrap in (vector.NumpyToTorch, lambda envs: envs)
    )
    assert (found.lengths, found.spikes, found.decisions) == (expected.lengths, expected.spikes, expected.decisions)
    assert found.returns == pytest.approx(expected.returns, rel=1e-6)  # rewards are float32 there


@pytest.mark.parametrize("name", MAKERS)
def test_single_environments_of_tensors_give_what_arrays_give(name):
    def tensors() -> gym.Env:
        return NumpyToTorch(MarkerEnv(seeded=True))

    found = evaluate(MAKERS[name](), tensors, episodes=6, seed=1)
    expected = evaluate(MAKERS[name](), lambda: MarkerEnv(seeded=True), episodes=6, seed=1)
    assert found.returns == expected.returns
    env = SpikingPolicyEval(tensors(), MAKERS[name]())
    obs, _ = env.reset(seed=1)
    action = env.act(obs)
    assert isinstance(action, torch.Tensor)
    assert isinstance(env.step(action)[0], torch.Tensor)
    assert env.evaluate(6, seed=1).returns == expected.returns


def test_collect_takes_tensors():
    found, expected = (
        dyadic_actor().collect(make, steps=30)
        for make in (lambda: NumpyToTorch(MarkerEnv(seeded=True)), lambda: MarkerEnv(seeded=True))
    )
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("through", ["env.act", "policy.act", "list"])
@pytest.mark.parametrize("options", [{}, {"grad": True}, {"dtype": torch.float64}, {"dtype": torch.bfloat16}])
def test_a_simulator_gets_tensors_whoever_acts(through, options):
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(Simulator(**options), policy, shadow=False)
    obs, _ = envs.reset()
    for step in range(7):
        actions = envs.act(obs) if through == "env.act" else policy.act(obs.detach().float().numpy())
        obs, rewards, _, _, infos = envs.step(actions if through != "list" else np.asarray(actions).copy())
        assert isinstance(rewards, torch.Tensor)
        assert infos["snn"]["spikes"].tolist() == [[step, 1]] * 2
        assert ("episode" in infos["snn"]) == (step % 3 == 2)


def test_a_tensor_for_an_environment_of_arrays_arrives_as_an_array():
    taken = []

    class Watching(MarkerEnv):
        def step(self, action: Any) -> Any:
            taken.append(type(action))
            return super().step(action)

    env = SpikingPolicyEval(Watching(), RecordingPolicy())
    obs, _ = env.reset()
    env.step(torch.from_numpy(env.act(obs)))
    assert taken == [np.ndarray]


def test_a_tensor_that_requires_grad_is_as_good_for_act():
    envs = SpikingPolicyVectorEval(Simulator(grad=True), dyadic_actor())
    obs, _ = envs.reset()
    assert obs.requires_grad
    actions: Any = envs.act(obs)
    assert not actions.requires_grad


def test_another_device_is_refused_in_one_line_before_the_environment_has_stepped():
    simulator = Simulator("meta")
    envs = SpikingPolicyVectorEval(simulator, RecordingPolicy())
    with pytest.raises(ValueError, match=r"observation: Tensor on device meta; policies act on the CPU") as caught:
        envs.reset()
    assert "\n" not in str(caught.value)
    assert "ArrayConversion" in str(caught.value)
    assert simulator.steps == 0
    with pytest.raises(ValueError, match="on device meta"):
        envs.act(torch.zeros((2, 4), device="meta"))


def test_actions_on_another_device_are_refused_before_the_environment_has_stepped():
    simulator = Simulator()
    envs = SpikingPolicyVectorEval(simulator, RecordingPolicy())
    envs.reset()
    with pytest.raises(ValueError, match="actions: Tensor on device meta"):
        envs.step(torch.zeros((2, 2), device="meta"))
    assert simulator.steps == 0


@pytest.mark.parametrize("loop", ["wrapper", "evaluate", "collect"])
def test_single_environments_on_another_device_are_refused_before_they_have_stepped(loop):
    class Elsewhere(MarkerEnv):
        stepped = 0

        def reset(self, **options: Any) -> Any:
            return torch.from_numpy(super().reset(**options)[0]).to("meta"), {}

        def step(self, action: Any) -> Any:
            Elsewhere.stepped += 1
            return super().step(action)

    run = {
        "wrapper": lambda: SpikingPolicyEval(Elsewhere(), RecordingPolicy()).reset(),
        "evaluate": lambda: evaluate(RecordingPolicy(), Elsewhere, episodes=2),
        "collect": lambda: dyadic_actor().collect(Elsewhere, steps=2),
    }[loop]
    with pytest.raises(ValueError, match="observation: Tensor on device meta; policies act on the CPU"):
        run()
    assert Elsewhere.stepped == 0


class Accelerated:
    """An array of a library that is not installed here."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(3, np.float32)


def named(**attributes: str) -> Any:
    return type("Device", (), {**attributes, "__str__": lambda self: str(attributes)})()


@pytest.mark.parametrize("device", ["cuda:0", named(type="mps"), named(platform="gpu"), "/job:localhost/device:GPU:0"])
def test_devices_of_every_library_are_recognised(device):
    with pytest.raises(ValueError, match="x: Accelerated on device"):
        host_array(Accelerated(device), "x")


@pytest.mark.parametrize(
    "device", ["cpu", named(type="cpu"), named(platform="cpu"), "/job:localhost/device:CPU:0", None]
)
def test_arrays_of_other_libraries_on_the_cpu_are_taken(device):
    assert host_array(Accelerated(device), "x").tolist() == [1, 1, 1]


def test_what_cannot_become_an_array_is_one_line():
    class Stubborn:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise TypeError("implicit conversion to a NumPy array is not allowed")

    with pytest.raises(ValueError, match=r"x: Stubborn, not an array of numbers \(implicit conversion"):
        host_array(Stubborn(), "x")


def test_actions_handed_over_are_the_environments_own():
    actions = np.zeros((2, 2), np.float32)
    given = ArrayForm(torch.zeros(1)).of(actions)
    given += 1
    assert not actions.any()
