"""One TD3+BC run from its dataset to its last checkpoint: for `snn-policy train td3bc` and the paper's tables."""

from collections.abc import Callable
from pathlib import Path

from snn_policy.engines.torch_engine import usable_device
from snn_policy.offline.batches import PackedData
from snn_policy.offline.checkpoints import open_run, save_checkpoint
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings

CHECKPOINT_EVERY = 1_000
"""Gradient steps: some ten seconds."""


def train_run(
    directory: Path,
    data: PackedData,
    settings: TD3BCSettings,
    steps: int,
    *,
    resume: bool = False,
    checkpoint_every: int = CHECKPOINT_EVERY,
    device: str = "cpu",
    advance: Callable[[int], None] = lambda done: None,
) -> TD3BC:
    """Train until `steps` gradient steps have been taken in all, with a checkpoint every `checkpoint_every` of them.

    A run resumed after a kill goes on from its last checkpoint and ends bit for bit where it would have ended. More
    steps may be asked of a finished run.

    Args:
        device: torch's, such as "cuda"; bit for bit holds within one kind of device.
        advance: called with the number of steps taken so far, first of all with those of the resumed checkpoint.

    Raises:
        ValueError: see `open_run`; numbers below 1; parameters that are no longer finite; no such device here.
        OSError: the checkpoint cannot be written; the last one stays.
    """
    if steps < 1 or checkpoint_every < 1:
        raise ValueError(f"steps {steps}, checkpoint_every {checkpoint_every}: expected at least 1")
    run = open_run(directory, data, settings, resume, usable_device(device))
    advance(run.step)
    while run.step < steps:
        run.train(min(steps, run.step - run.step % checkpoint_every + checkpoint_every))
        _require_finite(run, directory)
        save_checkpoint(run, directory)
        advance(run.step)
    return run


def _require_finite(run: TD3BC, directory: Path) -> None:
    if not (run.actor.values.isfinite().all() and run.critics.values.isfinite().all()):
        raise ValueError(
            f"{directory}: training diverged before step {run.step}; the last checkpoint is from before that. "
            "Check the dataset's rewards, or lower --learning-rate"
        )
