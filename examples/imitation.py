"""Behaviour cloning, as `train_pixels.py` and `train_direct.py` do it: batches of what an expert did, and the loop."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pixel_rollouts import Rollouts
from torch import Tensor, nn

from snn_policy.progress import track

SHIFT, BATCH, LEARNING_RATE = 2, 64, 1e-3
Batches = Callable[[], tuple[Tensor, Tensor]]


def pixel_batches(data: Rollouts, rng: np.random.Generator) -> Batches:
    """Pictures (64, 9, 84, 84), shifted, and the expert's actions."""

    def batch() -> tuple[Tensor, Tensor]:
        rows = rng.integers(0, len(data), BATCH)
        return shifted(torch.from_numpy(data.stacks(rows)), rng), torch.from_numpy(data.actions[rows])

    return batch


def state_batches(data: Rollouts, rng: np.random.Generator, mean: Tensor, scale: Tensor) -> Batches:
    """Normalised states (64, state) of the same decisions, and the expert's actions."""

    def batch() -> tuple[Tensor, Tensor]:
        rows = rng.integers(0, len(data), BATCH)
        return (torch.from_numpy(data.states[rows]) - mean) / scale, torch.from_numpy(data.actions[rows])

    return batch


def shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The batch moved by up to 2 pixels, its edges repeated: DrQ's augmentation, at half its reach."""
    down, right = rng.integers(0, 2 * SHIFT + 1, 2)
    padded = nn.functional.pad(images.float(), (SHIFT,) * 4, mode="replicate")
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]


def fit(module: nn.Module, batch: Batches, batches: int, title: str) -> float:
    """Mean squared error against the expert's actions; the mean loss of the last 100 batches."""
    optimiser, losses = torch.optim.Adam(module.parameters(), LEARNING_RATE), []
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, batches, LEARNING_RATE / 10)
    for _ in track(range(batches), title):
        inputs, wanted = batch()
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast; the weights stay float32
            actions = module(inputs)
        loss = nn.functional.mse_loss(actions.float(), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-100:]))


def save(module: nn.Module, path: Path) -> None:
    torch.save(module.state_dict(), path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)
