"""`snn-policy train collect`, and the rollouts behind it."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.cli import main
from snn_policy.offline.collect import SIDE_BY_SIDE, medium_expert, rollout, summarise
from snn_policy.offline.datasets import load_dataset
from tests.recorded import ARRAYS, counted, same

pytest.importorskip("minari")
pytest.importorskip("h5py")


def pendulum_actor(gain: float = 1.0, bound: float = 2.0) -> Actor:
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(8, 3)).astype(np.float32), np.zeros(8, np.float32), RELU)
    last = Linear((gain * rng.normal(size=(1, 8))).astype(np.float32), np.zeros(1, np.float32))
    return Actor((hidden, last), Head.bounded([-bound], [bound]), (3,), env_id="Pendulum-v1", name="small")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    from snn_policy.convert import convert

    actor, directory = pendulum_actor(), tmp_path_factory.mktemp("actors") / "small"
    convert(actor, actor.collect("Pendulum-v1", steps=100)).save(directory)
    return str(directory)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own working directory, without runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------- rollouts


def test_a_rollout_has_exactly_the_steps_asked_for_and_ends_every_row():
    data = rollout(pendulum_actor(), "Pendulum-v1", steps=2_043, seed=1)
    assert len(data) == 2_043
    assert data.episode_lengths().tolist() == [200, 5] * 3 + [200, 4] * 7
    assert not len(data.cuts())
    data.check_fits("Pendulum-v1")


def test_a_rollout_repeats_with_its_seed_and_differs_with_another():
    one, again, other = (rollout(pendulum_actor(), "Pendulum-v1", steps=300, seed=seed) for seed in (3, 3, 4))
    assert same(one, again)
    assert not np.array_equal(one.observations, other.observations)


def test_episodes_start_with_consecutive_seeds():
    import gymnasium as gym

    data, env = rollout(pendulum_actor(), "Pendulum-v1", steps=20, seed=5), gym.make("Pendulum-v1")
    starts = [data.observations[rows.start] for rows in data.episodes()]
    expected = [env.reset(seed=5 + row)[0] for row in range(SIDE_BY_SIDE)]
    np.testing.assert_array_equal(starts, expected)


def test_noise_has_the_size_asked_for_and_the_executed_action_is_recorded():
    actor = pendulum_actor(gain=0.01)  # far from the bounds, so that nothing is clipped
    data = rollout(actor, "Pendulum-v1", steps=4_000, noise=0.1)
    noise = data.actions - actor.step(data.observations, ())[0]
    assert noise.std() == pytest.approx(0.1 * 2, rel=0.05)
    still = rollout(actor, "Pendulum-v1", steps=50, noise=0.0)
    np.testing.assert_allclose(still.actions, actor.step(still.observations, ())[0], atol=1e-6)
    loud = rollout(actor, "Pendulum-v1", steps=500, noise=1.0)
    assert np.abs(loud.actions).max() == 2


def test_medium_expert_is_half_and_half_the_medium_first():
    weak, strong = replace(pendulum_actor(gain=0.0), name="weak"), replace(pendulum_actor(), name="strong")
    data = medium_expert(weak, strong, "Pendulum-v1", steps=101, noise=0.0)
    assert (len(data), data.quality, data.name) == (101, "medium-expert", "weak + strong")
    np.testing.assert_array_equal(data.actions[:50], 0)
    assert (data.actions[50:] != 0).all()


def test_a_summary_counts_whole_episodes_only():
    data = rollout(pendulum_actor(), "Pendulum-v1", steps=2_050, noise=0.0)
    summary = summarise(data)
    assert (summary.episodes, summary.whole_episodes, summary.longest) == (20, 10, 200)
    returns = data.episode_returns()[data.episode_lengths() == 200]
    assert summary.mean == pytest.approx(returns.mean())
    assert summary.score is None


def test_what_cannot_be_rolled_out_is_refused():
    with pytest.raises(ValueError, match="noise 2: expected"):
        rollout(pendulum_actor(), "Pendulum-v1", steps=10, noise=2)
    with pytest.raises(ValueError, match="does not fit"):
        rollout(pendulum_actor(), "MountainCarContinuous-v0", steps=10)
    discrete = replace(pendulum_actor(), head=Head.argmax(1))
    with pytest.raises(ValueError, match="discrete actions"):
        rollout(discrete, "Pendulum-v1", steps=10)


# ------------------------------------------------------------------------------------------------- the command


def collected(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["train", "collect", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["train", "collect", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("quality", "options", "actors"),
    [("expert", ["--source"], 1), ("medium", ["--medium"], 1), ("medium-expert", ["--source", "--medium"], 2)],
)
def test_rollouts_are_written_where_they_are_expected(
    quality: str, options: list[str], actors: int, bundle: str, capsys: pytest.CaptureFixture[str]
):
    given = [element for option in options for element in (option, bundle)]
    made = collected(capsys, "Pendulum-v1", "--quality", quality, "--steps", "60", "--seed", "2", *given)
    assert made["out"] == f"runs/datasets/Pendulum-v1-{quality}"
    assert made["recipe"] == {"actors": ["small"] * actors, "steps": 60, "seed": 2, "noise": 0.1}
    data = load_dataset(made["out"])
    assert (len(data), data.env_id, data.quality) == (60, "Pendulum-v1", quality)
    assert made["episodes"] == len(data.episodes())


def test_the_replay_buffer_of_a_run_becomes_medium_replay(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    run = elsewhere / "runs" / "medium-Pendulum"
    run.mkdir(parents=True)
    np.savez_compressed(run / "replay.npz", **{name: getattr(counted(), name) for name in ARRAYS})
    made = collected(capsys, "Pendulum-v1", "--quality", "medium-replay")
    assert made["recipe"] == {"replay": "medium-Pendulum"}
    assert same(load_dataset(made["out"]), counted())
    assert "does not fit" in mistake(
        capsys, "MountainCarContinuous-v0", "--quality", "medium-replay", "--replay", str(run / "replay.npz")
    )


def test_a_table_tells_what_was_made(bundle: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    command = ["train", "collect", "Pendulum-v1", "--quality", "expert", "--source", bundle, "--steps", "2000"]
    assert main([*command, "--out", "mine"]) == 0
    out = capsys.readouterr().out
    for name in ("Pendulum-v1 expert", "2,000", "return, mean ± std", "wrote mine"):
        assert name in out
    assert len(load_dataset(elsewhere / "mine")) == 2_000


def test_a_reference_actor_is_the_default_expert_and_is_scored(
    reference_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("SNN_POLICY_REFERENCE_DIR", str(reference_dir))
    made = collected(capsys, "Hopper-v5", "--quality", "expert", "--steps", "300")
    assert made["recipe"]["actors"] == ["ppo-Hopper-v3"]
    load_dataset(made["out"]).check_fits("Hopper-v5")


def test_a_shipped_actor_takes_the_place_of_an_absent_reference(monkeypatch: pytest.MonkeyPatch, elsewhere: Path):
    from snn_policy.exported import path
    from snn_policy.offline.default_sources import expert_of

    monkeypatch.setenv("SNN_POLICY_REFERENCE_DIR", str(elsewhere))
    assert expert_of("HalfCheetah-v5") == path("td3-HalfCheetah-v5")


def test_a_mistake_is_one_line_and_found_before_the_work(
    bundle: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    start = ("Pendulum-v1", "--source", bundle, "--quality")
    assert "expected one of expert, medium" in mistake(capsys, *start, "good")
    assert "--source: the quality medium does not take it" in mistake(capsys, *start, "medium")
    assert "runs/medium-Pendulum: no last.zip" in mistake(capsys, "Pendulum-v1", "--quality", "medium")
    assert "--stop-at" in mistake(capsys, "Pendulum-v1", "--quality", "medium-replay")
    assert "no expert is known" in mistake(capsys, "Swimmer-v5", "--quality", "expert")
    assert "Nowhere-v0" in mistake(capsys, "Nowhere-v0", *start[1:], "expert")
    (elsewhere / "taken").mkdir()
    assert "taken: already exists" in mistake(capsys, *start, "expert", "--out", "taken")
    (elsewhere / "file").write_text("")
    assert "not a directory" in mistake(capsys, *start, "expert", "--out", "file/new")
    assert not (elsewhere / "runs").exists()


def test_a_missing_extra_is_found_before_the_work(bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setitem(sys.modules, "h5py", None)
    line = mistake(capsys, "Pendulum-v1", "--quality", "expert", "--source", bundle)
    assert "snn-policy[train]" in line


def test_an_interrupt_leaves_nothing(
    bundle: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.modules["snn_policy.offline.minari_writing"], "_flush", interrupted)
    assert main(["train", "collect", "Pendulum-v1", "--quality", "expert", "--source", bundle, "--steps", "20"]) == 130
    assert not list((elsewhere / "runs" / "datasets").iterdir())


def test_train_without_a_command_shows_the_help(capsys: pytest.CaptureFixture[str]):
    assert main(["train"]) == 0
    assert "collect" in capsys.readouterr().out
    assert main(["train", "collect", "--help"]) == 0
    assert "snn-policy train collect" in capsys.readouterr().out
