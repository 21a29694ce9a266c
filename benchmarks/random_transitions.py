"""Random transitions of HalfCheetah's sizes: what gradient steps are timed and compared on."""

import numpy as np
import torch

from snn_policy.offline.batches import PackedData


def random_data(observations: int = 17, actions: int = 6, rows: int = 100_000) -> PackedData:
    """Return normal observations and rewards, and actions clipped to ±1; no episode terminates."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn((rows, 2 * observations + actions + 2), generator=generator)
    table[:, observations : observations + actions].clamp_(-1, 1)
    table[:, -1] = 1
    one = np.ones(actions, np.float32)
    mean, scale = np.zeros(observations, np.float32), np.ones(observations, np.float32)
    return PackedData(table, mean, scale, -one, one, "HalfCheetah-v5", "random", "")
