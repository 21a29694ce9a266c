"""evaluate with several worker processes: the same numbers as with one, and an end to everything that goes wrong."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from marker_env import MarkerEnv, RecordingPolicy, dyadic_actor

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.evaluation.evaluate import Evaluation, compare, evaluate, rows_of_workers
from snn_policy.evaluation.workers import WorkerTask, _sendable, _unpickled, usable_cores
from snn_policy.wrappers.rendering import NoRendererError

TIMED = ("microseconds", "policy_seconds", "environment_seconds", "num_envs", "workers")
seeded = partial(MarkerEnv, seeded=True)
gym.register("SeededMarker-v0", entry_point="marker_env:MarkerEnv", kwargs={"seeded": True})


class Deadly(MarkerEnv):
    """Kills its process, as the system does where memory runs out."""

    def step(self, action: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Stubborn(MarkerEnv):
    """Keeps its process from being ended, and its episodes from ending; the first one fails."""

    def __init__(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        super().__init__()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.fails = seed == 5000
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self.fails:
            raise ArithmeticError("broken joint")
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


class Fragile(MarkerEnv):
    def step(self, action: Any) -> Any:
        raise ArithmeticError("broken joint")


def without_time(found: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in found.as_dict().items() if name not in TIMED}


def pendulum_policy() -> SpikingPolicy:
    """Untrained, with weights whose sums round."""
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(32, 3)).astype(np.float32), np.zeros(32, np.float32), RELU)
    last = Linear(rng.normal(size=(1, 32)).astype(np.float32), np.zeros(1, np.float32))
    actor = Actor((hidden, last), Head.bounded([-2.0], [2.0]), (3,), env_id="Pendulum-v1")
    return convert(actor, actor.collect("Pendulum-v1", steps=400))


@pytest.fixture(scope="module")
def policy() -> SpikingPolicy:
    """Amid an episode."""
    policy = pendulum_policy()
    policy.act(np.ones((2, 3)))
    return policy


@pytest.fixture(scope="module")
def shared(policy: SpikingPolicy) -> tuple[Evaluation, int]:
    """Seven episodes of two workers, and how many the progress bar has counted."""
    counted = []

    @contextmanager
    def counting(*_: object) -> Iterator[Callable[[], None]]:
        yield lambda: counted.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["snn_policy.evaluation.evaluate"], "counting", counting)
        return evaluate(policy, "Pendulum-v1", episodes=7, seed=3, num_envs=3, workers=2), len(counted)


def test_episodes_are_the_same_to_the_bit_and_their_costs_sum_up(shared: tuple[Evaluation, int]):
    alone = evaluate(pendulum_policy(), "Pendulum-v1", episodes=7, seed=3, num_envs=3)
    assert without_time(shared[0]) == without_time(alone)
    assert (shared[0].workers, shared[0].num_envs, alone.workers) == (2, 3, 1)
    assert shared[0].policy_seconds > 0
    assert shared[0].environment_seconds > 0


def test_every_finished_episode_is_counted_once(shared: tuple[Evaluation, int]):
    assert shared[1] == 7


def test_the_callers_policy_stays_as_it_was(shared: tuple[Evaluation, int], policy: SpikingPolicy):
    twin = pendulum_policy()
    twin.act(np.ones((2, 3)))
    assert all(np.array_equal(a, b) for a, b in zip(policy.state, twin.state, strict=True))
    assert policy.counters.decisions.tolist() == [1, 1]
    assert policy.last_decision is not None


def test_compare_gives_ids_that_only_the_caller_has_registered_to_both_policies():
    actor = dyadic_actor()
    found, alone = (compare(actor, RecordingPolicy(), "SeededMarker-v0", episodes=9, workers=n) for n in (2, 1))
    for name in ("ann", "snn"):
        assert without_time(getattr(found, name)) == without_time(getattr(alone, name))


@pytest.mark.parametrize(
    ("env", "kind", "complaint"),
    [
        (Fragile, ArithmeticError, "broken joint"),
        (Stubborn, ArithmeticError, "broken joint"),
        (Deadly, ChildProcessError, r"worker \d of 2 was killed \(SIGKILL\); if memory ran out"),
        ("Pendulum-v1", ValueError, r"Pendulum-v1 does not fit the policy: .* \(3,\) .* \(4,\)"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_raised_here_and_none_is_left_behind(env: Any, kind: Any, complaint: str):
    with pytest.raises(kind, match=complaint):
        evaluate(RecordingPolicy(), env, episodes=4, workers=2)
    assert multiprocessing.active_children() == []


def test_what_cannot_be_sent_is_named_with_a_remedy():
    with pytest.raises(ValueError, match=r"env: cannot be sent .* defined at the top level of a module \(no lambda\)"):
        evaluate(RecordingPolicy(), lambda: MarkerEnv(), episodes=4, workers=2)
    policy: Any = RecordingPolicy()
    policy.log = sys.stderr
    with pytest.raises(ValueError, match=r"policy: cannot be sent .* use workers=1"):
        evaluate(policy, seeded, episodes=4, workers=2)
    assert evaluate(policy, lambda: MarkerEnv(), episodes=1, workers=2).workers == 1  # one episode needs no second


def test_what_a_worker_does_not_find_is_named_with_a_remedy():
    defined_in_a_notebook = WorkerTask({"env": b"cmarker_env\nmissing\n."}, seed=0, rows=1, workers=2)
    with pytest.raises(ValueError, match=r"env: cannot be loaded in a worker process .*missing.* top level"):
        _unpickled("env", defined_in_a_notebook)


def test_an_error_that_cannot_be_restored_keeps_its_text_and_built_in_type():
    error = _sendable(NoRendererError("no EGL"))
    assert type(error) is ValueError
    assert str(error) == str(NoRendererError("no EGL"))
    assert _sendable(error) is error


@pytest.mark.parametrize(
    ("episodes", "num_envs", "workers", "rows"),
    [
        (20, None, 1, [10]),
        (4, None, 1, [4]),
        (4, 9, 1, [4]),
        (100, None, 2, [10, 10]),
        (20, None, 2, [5, 5]),  # the rest goes to whoever is free first
        (3, None, 2, [1, 1]),
        (100, 7, 2, [3, 4]),
        (100, 1, 2, [1]),
        (2, None, 8, [1, 1]),
    ],
)
def test_environments_are_shared_evenly(episodes: int, num_envs: int | None, workers: int, rows: list[int]):
    assert rows_of_workers(episodes, num_envs, workers) == rows


def test_zero_workers_are_one_per_core():
    assert len(rows_of_workers(1000, None, 0)) == usable_cores() >= 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_or_killed_parent(ending: signal.Signals, tmp_path: Path):
    pendulum_policy().save(tmp_path)
    command = (sys.executable, "-m", "snn_policy.cli", "eval", str(tmp_path), "--workers", "2", "--episodes", "1000000")
    parent = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        workers = wait_until(lambda: working(parent.pid))
        if ending == signal.SIGINT:
            os.killpg(parent.pid, ending)  # as a terminal does
        else:
            parent.kill()
        said = parent.communicate(timeout=60)[1]
    finally:
        parent.kill()
    assert parent.returncode == (130 if ending == signal.SIGINT else -ending)
    assert "Traceback" not in said
    assert wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def working(parent: int) -> list[int]:
    """Its two workers, once they have used some time."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    spawned = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    busy = [
        process
        for process in spawned
        if int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11]) > 50
    ]
    return spawned if len(busy) == 2 else []


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s")


def test_a_script_without_the_guard_is_told_so(tmp_path: Path):
    script = tmp_path / "script.py"
    pendulum_policy().save(tmp_path)
    script.write_text(
        "from snn_policy import SpikingPolicy\nfrom snn_policy.evaluation.evaluate import evaluate\n"
        f"evaluate(SpikingPolicy.load({str(tmp_path)!r}), 'Pendulum-v1', episodes=4, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert 'must do so under: if __name__ == "__main__":' in done.stderr.splitlines()[-1]
