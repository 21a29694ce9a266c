"""dm_control ids that give pixels: what a camera makes of the decision process, and how pictures are refused."""

import json
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner

from snn_policy import evaluate
from snn_policy.environments import make_environment
from snn_policy.wrappers import SpikingPolicyVectorEval
from snn_policy.wrappers.dm_control import make_pixels, register
from tests.test_dm_control import HELD, PIXELS, SMALL, actor, rollout

suite = pytest.importorskip("dm_control.suite")


@pytest.mark.usefixtures("renderer")
class TestPixels:
    def test_pictures_are_uint8_channel_first_and_the_first_fills_the_stack(self):
        env = make_environment(PIXELS)
        assert env.observation_space == spaces.Box(0, 255, (9, 84, 84), np.uint8)
        assert env.action_space == spaces.Box(-1, 1, (1,), np.float32)
        obs, _ = rollout(env, 0, 4)
        assert (obs.shape, obs.dtype) == ((5, 9, 84, 84), np.uint8)
        np.testing.assert_array_equal(obs[0], np.tile(obs[0, :3], (3, 1, 1)))
        for before, after in pairwise(obs):
            np.testing.assert_array_equal(after[:6], before[3:])
            assert not np.array_equal(after[6:], before[6:])
        env.close()

    @pytest.mark.parametrize(("domain", "task", "camera"), [("cartpole", "swingup", 0), ("quadruped", "walk", 2)])
    def test_pictures_are_those_of_dm_control_upright_and_through_drqs_camera(self, domain, task, camera):
        env = make_pixels(domain, task, shadow_map=2048)
        obs, _ = env.reset(seed=1)
        plain = suite.load(domain, task, task_kwargs={"random": 1})
        plain.reset()
        expected = plain.physics.render(84, 84, camera_id=camera).astype(int)
        difference = np.abs(obs[-3:].transpose(1, 2, 0) - expected)
        assert (difference > 8).mean() < 0.001
        env.close()

    def test_a_coarser_shadow_map_changes_next_to_nothing(self):
        envs = make_pixels("cartpole", "swingup", shadow_map=2048), make_pixels("cartpole", "swingup")
        fine, coarse = (rollout(env, 1, 5)[0].astype(int) for env in envs)
        assert np.abs(fine - coarse).mean() < 0.1
        assert (np.abs(fine - coarse) > 8).mean() < 0.002

    def test_pixels_and_states_are_the_same_decision_process(self):
        assert rollout(make_environment(PIXELS), 2, 5)[1] == rollout(make_environment(HELD), 2, 5)[1]

    def test_the_same_seed_gives_the_same_pictures(self):
        first, second, other = (rollout(make_environment(SMALL), seed, 2)[0] for seed in (7, 7, 8))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first[0], other[0])

    def test_episodes_are_truncated_after_a_thousand_control_steps(self):
        env = make_environment(SMALL)
        obs, _ = env.reset(seed=0)
        assert obs.shape == (6, 16, 16)
        ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(10)]
        assert ends == [(False, False)] * 9 + [(False, True)]
        again, _ = env.reset(seed=0)
        np.testing.assert_array_equal(obs, again)

    def test_a_camera_that_the_model_lacks_is_refused(self):
        with pytest.raises(ValueError, match=r"camera 9: the model has \d, counted from 0"):
            make_pixels("cartpole", "swingup", camera=9)

    @pytest.mark.parametrize("shape", [(9, 64, 64), (84, 84, 9), (3, 84, 84)])
    def test_policies_for_other_pictures_are_refused_naming_the_options(self, shape):
        with pytest.raises(ValueError, match=r"\(9, 84, 84\).*takes shape .*-stackN-sizeN-v0"):
            make_environment(PIXELS, actor(*shape))

    def test_registered_ids_are_gymnasiums_own(self):
        register(SMALL)
        envs = gym.make_vec(SMALL, num_envs=2, vectorization_mode="sync")
        obs, _ = envs.reset(seed=0)
        assert obs.shape == (2, 6, 16, 16)
        found = SpikingPolicyVectorEval(envs, actor(6, 16, 16)).evaluate(episodes=2)
        assert found.render_seconds is not None
        assert 0 < found.render_seconds < found.environment_seconds
        envs.close()

    def test_evaluate_tells_how_long_it_took_to_draw(self):
        found = evaluate(actor(6, 16, 16), SMALL, episodes=3, num_envs=2)
        assert found.lengths == (10, 10, 10)
        assert found.render_seconds is not None
        assert 0 < found.render_seconds < found.environment_seconds
        assert json.loads(found.to_json())["render_seconds"] == found.render_seconds

    def test_the_command_line_prints_where_the_time_goes(self, monkeypatch):
        from snn_policy.cli import app
        from snn_policy.commands import measure

        monkeypatch.setattr(measure, "read_actor", lambda path: actor(6, 16, 16))
        done = CliRunner().invoke(app, ["eval", "actor.zip", "--env", SMALL, "--episodes", "1"])
        assert done.exit_code == 0, done.output
        assert "time spent on drawing" in " ".join(done.output.split())
        assert all(f"{name} " in done.output for name in ("drawing", "policy", "physics"))
