"""Small programs and checkpoints, one for every way in which a file keeps a policy, that fuzzers forge."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ELU(), nn.Linear(6, 2), nn.Tanh())


class Passed(nn.Module):
    """Takes its state and returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 3), nn.Linear(3, 2)

    def initial_state(self) -> Tensor:
        return torch.zeros(1, 3)

    def forward(self, obs: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(obs, h)
        return self.out(h), h


class Kept(nn.Module):
    """Keeps its state in buffers that it writes, and has a reset."""

    h: Tensor
    c: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTM(4, 3), nn.Linear(3, 2)
        self.register_buffer("h", torch.zeros(1, 1, 3))
        self.register_buffer("c", torch.zeros(1, 1, 3))

    @torch.jit.export
    def reset_memory(self) -> None:
        self.h.zero_()
        self.c.zero_()

    def forward(self, obs: Tensor) -> Tensor:
        out, (h, c) = self.cell(obs[None], (self.h, self.c))
        self.h.copy_(h)
        self.c.copy_(c)
        return self.out(out[0])


class Listed(nn.Module):
    """Keeps its last observations in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Tensor] = [torch.zeros(1, 4), torch.zeros(1, 4)]
        self.out = nn.Linear(12, 2)

    def forward(self, obs: Tensor) -> Tensor:
        whole = torch.cat([obs, self.frames[0], self.frames[1]], -1)
        self.frames.insert(0, obs)
        self.frames.pop()
        return self.out(torch.tanh(whole))


class Several(nn.Module):
    """Returns its action among other results, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.value = plain(), nn.Linear(4, 1)

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        return {"value": self.value(obs), "action": self.body(obs)}


def _rsl_rl() -> dict[str, Any]:
    weights = {f"actor.{key}": value for key, value in plain().state_dict().items()}
    statistics = {f"actor_obs_normalizer.{key}": value for key, value in
                  {"_mean": torch.zeros(1, 4), "_var": torch.ones(1, 4), "_std": torch.ones(1, 4),
                   "count": torch.tensor(3)}.items()}  # fmt: skip
    return {"model_state_dict": {**weights, **statistics, "std": torch.ones(2)}, "iter": 3, "infos": None}


PROGRAMS: dict[str, Callable[[], nn.Module]] = {
    "TorchScript": plain, "passed state": Passed, "kept state": Kept, "kept list": Listed, "several results": Several,
}  # fmt: skip
CHECKPOINTS: dict[str, Callable[[], Any]] = {
    "checkpoint": lambda: {"model": plain().state_dict(), "best": np.float64(3), "sizes": [1, 2]}, "rsl_rl": _rsl_rl,
}  # fmt: skip
