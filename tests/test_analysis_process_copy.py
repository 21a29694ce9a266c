"""Trying something in a copy of the process gives the same as repeating the episode, and leaves nothing behind."""

import os
import signal
from typing import Any

import numpy as np
import pytest

from snn_policy.analysis import replayed, walk
from snn_policy.analysis.process_copy import can_copy_process, in_a_copy
from snn_policy.analysis.walks import Walk
from snn_policy.convert import convert
from tests.synthetic import Line, line_actor

pytestmark = pytest.mark.skipif(not can_copy_process(), reason="no copies of a process on this system")


def test_a_copy_changes_nothing_here_and_answers_at_any_size() -> None:
    kept = [1.0]

    def change() -> tuple[int, np.ndarray]:
        kept.append(2.0)
        return len(kept), np.full(300_000, kept[-1])

    count, values = in_a_copy(change)
    assert (count, values.sum()) == (2, 600_000.0)
    assert kept == [1.0]


def test_what_is_raised_in_a_copy_is_raised_here() -> None:
    def fail() -> None:
        raise ValueError("reward nan in step 7")

    with pytest.raises(ValueError, match="reward nan in step 7"):
        in_a_copy(fail)


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0)])
def test_a_copy_that_ends_is_an_error_and_no_hang(end: Any) -> None:
    with pytest.raises(RuntimeError, match="ended without an answer"):
        in_a_copy(end)


def test_an_interrupted_copy_says_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(RuntimeError):
        in_a_copy(interrupt)
    assert capfd.readouterr().err == ""


class World(Line):
    """The line, in a world of Box2D's."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.world = type("b2World", (), {"__module__": "Box2D.Box2D"})()


@pytest.mark.parametrize("after", [0, 1, 7])
def test_walks_are_the_same_to_the_bit_however_actions_are_tried(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=200), neuron="if", timesteps=4)
    found = []
    for copied_after in (after, 10**9):
        monkeypatch.setattr(replayed, "COPIED_AFTER", copied_after)
        found.append(walk(actor, policy, World, episodes=1, seed=3, decisions=12))
    from_memory = walk(actor, policy, Line, episodes=1, seed=3, decisions=12)
    for other in (found[1], from_memory):
        pairs = zip((*found[0].snn, *found[0].ann), (*other.snn, *other.ann), strict=True)
        assert all(same(one, another) for one, another in pairs)


def same(one: Walk, other: Walk) -> bool:
    names = ("observations", "snn", "ann", "snn_rewards", "ann_rewards", "ann_after_snn", "ann_after_ann", "changed")
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in names)
