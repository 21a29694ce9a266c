"""Look-alikes of the policies that robots run, with random weights: one module per structure, with its inputs."""

# torch gives buffers and parameters of a module the type Tensor | Module
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportOptionalMemberAccess=false, reportGeneralTypeIssues=false
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ELU, last: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Linear(inputs, outputs)]
        layers += [activation()] if last or index < len(widths) - 2 else []
    return nn.Sequential(*layers)


class Estimator(nn.Module):
    """HIM: six frames, newest first; a velocity and a latent of length one beside the newest frame."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.actor = mlp(270, 128, 64, 19), mlp(64, 512, 256, 128, 12)

    def forward(self, obs: Tensor) -> Tensor:
        parts = self.encoder(obs)
        latent = F.normalize(parts[:, 3:19], dim=-1, p=2.0)
        return self.actor(torch.cat((obs[:, 0:45], parts[:, 0:3], latent), dim=-1))


class HistoryEstimator(nn.Module):
    """The same with a history (10, 57), its last row by select, rows 5 to 9 without the first 5 columns: 19 values."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.actor = mlp(260, 128, 64, 19), mlp(76, 256, 128, 64, 16)

    def forward(self, history: Tensor) -> Tensor:
        last = history[:, -1]
        parts = self.encoder(history[:, 5:, 5:].flatten(1))
        return self.actor(torch.cat((last, parts[:, :3], F.normalize(parts[:, 3:], dim=-1)), dim=-1))


class SpelledNorm(nn.Module):
    """45 → 35 = 3 + 32, the norm spelled out as Abs, Pow 2, ReduceSum, Pow 0.5, Clip."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.actor = mlp(45, 256, 256, 35), mlp(80, 256, 256, 256, 12)

    def forward(self, obs: Tensor) -> Tensor:
        parts = self.encoder(obs)
        latent = parts[:, 3:]
        size = latent.abs().pow(2.0).sum(1, keepdim=True).pow(0.5).clamp(min=1e-12)
        return self.actor(torch.cat((obs, parts[:, :3], latent / size.expand_as(latent)), dim=-1))


class TwoInputs(nn.Module):
    """Two normalised inputs, a history that the newest joins, an encoder with BatchNorm and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(33) * 0.1)
        self.register_buffer("std", torch.rand(33) + 0.5)

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ELU()]

        self.encoder = nn.Sequential(*block(165, 128), *block(128, 64))
        self.latent, self.velocity = nn.Sequential(*block(64, 32), nn.Linear(32, 16)), nn.Linear(64, 3)
        self.actor = mlp(52, 512, 256, 128, 8)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)

    def forward(self, obs: Tensor, history: Tensor) -> Tensor:
        now = (obs - self.mean) / self.std
        past = (history - self.mean) / self.std
        frames = torch.cat((past[:, 1:], now.unsqueeze(1)), dim=1)[:, -5:]
        seen = self.encoder(frames.reshape(frames.shape[0], -1))
        return self.actor(torch.cat((self.velocity(seen), self.latent(seen), now), dim=-1))


class Joined(nn.Module):
    """Inputs that are only joined, 81 ⊕ 64."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(145, 64, 32, 12)

    def forward(self, state: Tensor, command: Tensor) -> Tensor:
        return self.actor(torch.cat([state, command], dim=-1))


class Parkour(nn.Module):
    """obs 753 and a depth latent 32; an estimate written into the observation; a convolution over the history."""

    def __init__(self) -> None:
        super().__init__()
        self.estimator, self.frame = mlp(53, 128, 64, 9), nn.Sequential(nn.Linear(53, 30), nn.ELU())
        self.convolve = nn.Sequential(
            nn.Conv1d(30, 20, 4, 2), nn.ELU(), nn.Conv1d(20, 10, 2, 1), nn.ELU(), nn.Flatten()
        )
        self.history = nn.Sequential(nn.Linear(30, 20), nn.ELU())
        self.actor = mlp(114, 512, 256, 128, 12)

    def forward(self, obs: Tensor, depth: Tensor) -> Tensor:
        obs = obs.clone()
        obs[:, 185:194] = self.estimator(obs[:, :53])
        frames = obs[:, -530:].reshape(-1, 10, 53)
        projected = self.frame(frames.reshape(-1, 53)).view(-1, 10, 30)
        past = self.history(self.convolve(projected.permute(0, 2, 1)))
        return self.actor(torch.cat((obs[:, :53], depth, obs[:, 185:194], past), dim=-1))


class Tracking(nn.Module):
    """Whole-body tracking: three encoders beside the state, LayerNorm before the last activation."""

    def __init__(self) -> None:
        super().__init__()
        silu = nn.SiLU
        self.now = nn.Sequential(nn.Linear(35, 60), silu(), nn.Linear(60, 128))
        self.frame = nn.Sequential(nn.Linear(127, 60), silu())
        self.convolve = nn.Sequential(nn.Conv1d(60, 40, 4, 2), silu(), nn.Conv1d(40, 20, 2, 1), silu(), nn.Flatten())
        self.past = nn.Linear(60, 128)
        self.goal = mlp(34, 256, 128, 128, activation=silu)
        last = (nn.Linear(256, 128), nn.LayerNorm(128), silu(), nn.Linear(128, 29))
        self.actor = nn.Sequential(mlp(511, 512, 512, 256, activation=silu, last=True), *last)

    def forward(self, obs: Tensor) -> Tensor:
        first, second, history, last = torch.split(obs, [35, 92, 1270, 35], dim=-1)
        frames = self.frame(history.reshape(-1, 10, 127)).transpose(1, 2)
        seen = self.past(self.convolve(frames))
        return self.actor(torch.cat((first, second, self.now(first), seen, self.goal(last[:, :34])), dim=-1))


class Parallel(nn.Module):
    """Parallel branches: 920,192 multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.arms, self.legs = mlp(575, 512, 256, 128, 15), mlp(575, 512, 256, 128, 14)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.cat((self.arms(obs), self.legs(obs)), dim=-1)


class Reordered(nn.Module):
    """Slices and permutations of the observation, min(phase, 1), and actions scattered into 29 zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(380, 512, 256, 128, 23)
        self.register_buffer("order", torch.randperm(23))
        self.register_buffer("joints", torch.randperm(29)[:23])
        self.sizes = [23] * 16 + [11]

    def forward(self, obs: Tensor) -> Tensor:
        pieces: list[Tensor] = []
        start = 0
        for size in self.sizes:
            piece = obs[:, start : start + size]
            pieces.append(piece[:, self.order] if size == 23 and start % 2 == 0 else piece)
            start += size
        pieces.append(torch.clamp(obs[:, 379:380], max=1.0))
        action = self.actor(torch.cat(pieces, dim=-1))
        whole = torch.zeros(1, 29)
        whole[:, self.joints] = action
        return whole


class LayerNorms(nn.Module):
    """Linear, LayerNorm, SiLU; a normaliser and a full slice in front; tanh · scale + shift."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (100, 512, 256, 128), list[nn.Module]()
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
            nn.init.normal_(layers[-2].weight, 1.0, 0.2)  # pyright: ignore
            nn.init.normal_(layers[-2].bias, 0.0, 0.2)  # pyright: ignore
        self.body = nn.Sequential(*layers, nn.Linear(128, 29), nn.Tanh())
        self.register_buffer("mean", torch.randn(100))
        self.register_buffer("std", torch.rand(100) + 0.3)
        self.register_buffer("scale", torch.rand(29) + 0.5)
        self.register_buffer("shift", torch.randn(29) * 0.1)

    def forward(self, obs: Tensor) -> Tensor:
        return self.body((obs[:, 0:100] - self.mean) / (self.std + 0.01)) * self.scale + self.shift


class SimBa(nn.Module):
    """x + Linear(ReLU(Linear(LN x))) blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last_norm, self.last = nn.Linear(17, 64), nn.LayerNorm(64), nn.Linear(64, 6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)) for _ in range(3)
        )

    def forward(self, obs: Tensor) -> Tensor:
        x = self.first(obs)
        for block in self.blocks:
            x = x + block(x)
        return torch.tanh(self.last(self.last_norm(x)))


class DrQ(nn.Module):
    """DrQ-v2's trunk: Linear, LayerNorm, Tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(40, 50), nn.LayerNorm(50), nn.Tanh())
        self.policy = mlp(50, 64, 64, 6, activation=nn.ReLU)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.policy(self.trunk(obs)))


class LstmPolicy(nn.Module):
    """LSTM(47 → 64) → 32 → 12, its state in buffers that forward writes."""

    def __init__(self, inputs: int = 47, width: int = 64, layers: int = 1, head: tuple[int, ...] = (32, 12)) -> None:
        super().__init__()
        self.memory, self.actor = nn.LSTM(inputs, width, layers), mlp(width, *head)
        self.register_buffer("hidden_state", torch.zeros(layers, 1, width))
        self.register_buffer("cell_state", torch.zeros(layers, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        out, (h, c) = self.memory(x.unsqueeze(0), (self.hidden_state, self.cell_state))
        self.hidden_state[:] = h
        self.cell_state[:] = c
        return self.actor(out.squeeze(0))

    @torch.jit.export
    def reset_memory(self) -> None:
        self.hidden_state[:] = 0.0
        self.cell_state[:] = 0.0


class NormalisedLstm(LstmPolicy):
    """A normaliser, LSTM(96 → 256) → 256 → 256 → 128 → 29; its state is assigned anew."""

    def __init__(self) -> None:
        super().__init__(96, 256, 1, (256, 256, 128, 29))
        self.register_buffer("mean", torch.randn(96))
        self.register_buffer("std", torch.rand(96) + 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / (self.std + 1e-2)
        out, (h, c) = self.memory(x.unsqueeze(0), (self.hidden_state, self.cell_state))
        self.hidden_state = h
        self.cell_state = c
        return self.actor(out.squeeze(0))


class DeepLstm(LstmPolicy):
    def __init__(self) -> None:
        super().__init__(30, 24, 2, (16, 5))


class GruPolicy(nn.Module):
    """22 → 16 ReLU → GRU 16 with a learned initial state → 4, by cell and copy_."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.last = nn.Linear(22, 16), nn.GRUCell(16, 16), nn.Linear(16, 4)
        self.initial = nn.Parameter(torch.randn(1, 16) * 0.5)
        self.register_buffer("hidden", self.initial.detach().clone())

    def forward(self, obs: Tensor) -> Tensor:
        h = self.cell(torch.relu(self.first(obs)), self.hidden)
        self.hidden.copy_(h)
        return self.last(h)

    @torch.jit.export
    def reset(self) -> None:
        self.hidden.copy_(self.initial)


class GruSequence(nn.Module):
    """nn.GRU of two layers, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.last = nn.GRU(20, 12, 2, batch_first=True), mlp(12, 16, 6)
        self.register_buffer("h", torch.zeros(2, 1, 12))

    def forward(self, obs: Tensor) -> Tensor:
        out, h = self.rnn(obs[:, None, :], self.h)
        self.h[:] = h
        return self.last(out[:, 0])


class SpelledGru(nn.Module):
    """A GRU of two linear layers (128 → 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.given, self.back = nn.Linear(30, 128), nn.Linear(128, 384), nn.Linear(128, 384)
        self.last = nn.Linear(128, 8)
        self.register_buffer("h", torch.zeros(1, 128))

    def forward(self, obs: Tensor) -> Tensor:
        a, b = self.given(F.elu(self.first(obs))), self.back(self.h)
        a_r, a_z, a_n = a.chunk(3, 1)
        b_r, b_z, b_n = b.chunk(3, 1)
        reset, update = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
        fresh = torch.tanh(a_n + reset * b_n)
        h = (1 - update) * fresh + update * self.h
        self.h.copy_(h)
        return self.last(h)


class Elman(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.last = nn.RNN(14, 10), nn.Linear(10, 3)
        self.register_buffer("h", torch.zeros(1, 1, 10))

    def forward(self, obs: Tensor) -> Tensor:
        out, h = self.rnn(obs.unsqueeze(0), self.h)
        self.h[:] = h
        return torch.tanh(self.last(out[0]))


class Frames(nn.Module):
    """The last three observations, kept by the policy itself, and its action of before."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(34, 32, 4)
        self.register_buffer("past", torch.zeros(1, 3, 10))
        self.register_buffer("action", torch.zeros(1, 4))

    def forward(self, obs: Tensor) -> Tensor:
        self.past = torch.cat((self.past[:, 1:], obs.unsqueeze(1)), dim=1)
        self.action = torch.tanh(self.body(torch.cat((self.past.flatten(1), self.action), dim=1)))
        return self.action


class WithStates(nn.Module):
    """What an ONNX export of a recurrent policy takes and gives: obs, h_in, c_in → actions, h_out, c_out."""

    def __init__(self, rnn: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.rnn, self.head = rnn, head

    def forward(self, obs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        given = state if len(state) > 1 else state[0]
        out, after = self.rnn(obs.unsqueeze(0), given)
        return (self.head(out.squeeze(0)), *(after if isinstance(after, tuple) else (after,)))


@dataclass
class Look:
    """A structure: how to make it, its inputs' shapes, and whether it remembers."""

    make: Callable[[], nn.Module]
    shapes: dict[str, tuple[int, ...]]
    given: bool = False
    recurrent: bool = False


FEED_FORWARD = {
    "estimator": Look(Estimator, {"obs": (270,)}),
    "history estimator": Look(HistoryEstimator, {"history": (10, 57)}, given=True),
    "spelled norm": Look(SpelledNorm, {"obs": (45,)}),
    "two inputs": Look(TwoInputs, {"obs": (33,), "history": (10, 33)}, given=True),
    "joined": Look(Joined, {"state": (81,), "command": (64,)}),
    "parkour": Look(Parkour, {"obs": (753,), "depth": (32,)}, given=True),
    "tracking": Look(Tracking, {"obs": (1432,)}),
    "parallel": Look(Parallel, {"obs": (575,)}),
    "reordered": Look(Reordered, {"obs": (380,)}),
    "layer norms": Look(LayerNorms, {"obs": (100,)}),
    "simba": Look(SimBa, {"obs": (17,)}),
    "drq": Look(DrQ, {"obs": (40,)}),
}


RECURRENT = {
    "lstm": Look(LstmPolicy, {"obs": (47,)}, recurrent=True),
    "normalised lstm": Look(NormalisedLstm, {"obs": (96,)}, recurrent=True),
    "deep lstm": Look(DeepLstm, {"obs": (30,)}, recurrent=True),
    "gru": Look(GruPolicy, {"obs": (22,)}, recurrent=True),
    "gru sequence": Look(GruSequence, {"obs": (20,)}, recurrent=True),
    "spelled gru": Look(SpelledGru, {"obs": (30,)}, recurrent=True),
    "elman": Look(Elman, {"obs": (14,)}, recurrent=True),
    "frames": Look(Frames, {"obs": (10,)}, given=True, recurrent=True),
}


def made(look: Look, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return look.make().eval()
