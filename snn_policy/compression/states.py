"""The states that the student learns from: the teacher's recording, and those of the student's own episodes (DAgger,
Ross et al. 2011), all with the teacher's outputs."""

import hashlib
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_policy.actor import Actor
from snn_policy.calibration.open_loop import forward
from snn_policy.calibration.recordings import chunks
from snn_policy.compression.loss import ActionError
from snn_policy.environments import EnvironmentSource, make_environment
from snn_policy.observations import EnvironmentRow
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray

NOISE = 0.05
"""Of states from a recording alone: standard deviation, in those of the recorded observation."""


class States:
    """Hold consecutive observations and what the teacher does there.

    Attributes:
        observations: (N, *shape) as they were recorded; a row and the one before it are consecutive decisions, but for
            the few where an episode begins.
        inputs: (N, inputs) normalised; `actions`: (N, actions) the teacher's, in units.
        profiled: how many are enough for a profile; `converted`: for a conversion.
        quiet: most of an observation stays as it was. `judged`: the share of the judge's usual episodes that is run.
        least_scale: by which s may change at once.
    """

    profiled, converted = 2_048, 6_000
    quiet, judged, least_scale = False, 1.0, 0.05

    def __init__(self, teacher: Actor, observations: FloatArray) -> None:
        self.teacher, self.observations = teacher, observations
        self.inputs, outputs = self._labelled(observations)
        self.error = ActionError(teacher, outputs.numpy())
        self.actions = self.error.action(outputs)
        self.offset, self.spread = self.inputs.mean(0), self.inputs.std(0)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the observations."""
        return hashlib.sha256(np.ascontiguousarray(self.observations).data).hexdigest()

    def add(self, observations: FloatArray) -> None:
        """Append states (N, *shape) of the student's episodes."""
        inputs, outputs = self._labelled(observations)
        self.observations = np.concatenate((self.observations, observations))
        self.inputs = torch.cat((self.inputs, inputs))
        self.actions = torch.cat((self.actions, self.error.action(outputs)))

    def error_of(self, student: Actor, observations: npt.NDArray[Any]) -> float:
        """Return the RMS of the student's action error on observations (N, *shape), in units."""
        total, count = 0.0, 0
        for chunk in chunks(observations):
            inputs = self.teacher.inputs(chunk)
            done, taught = (
                self.error.action(torch.from_numpy(forward(actor, inputs)[-1])) for actor in (student, self.teacher)
            )
            total, count = total + float((done - taught).square().sum(dtype=torch.float64)), count + taught.numel()
        return (total / count) ** 0.5

    @property
    def conversion_rows(self) -> Tensor:
        """Return the rows that a student's conversion is calibrated on, nearly all consecutive: the latest."""
        return torch.arange(max(0, len(self) - self.converted), len(self))

    def inputs_at(self, rows: Tensor) -> Tensor:
        """Return normalised states (rows, inputs)."""
        return self.inputs[rows]

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Draw noise for `batch`, (*shape, inputs)."""
        return rng.normal(scale=NOISE, size=(*shape, self.inputs.shape[1]))

    def batch(self, rows: Tensor, noise: npt.NDArray[Any] | None = None) -> tuple[Tensor, Tensor]:
        """Return the rows before the given ones, then these: inputs (2·rows, inputs) and the teacher's actions.

        Args:
            noise: (rows, inputs) added to both inputs of a pair, in the observation's standard deviations: the
                teacher's actions are then computed anew.
        """
        both = torch.cat((rows - 1, rows))
        if noise is None:
            return self.inputs[both], self.actions[both]
        disturbance = torch.from_numpy(noise.astype(np.float32))
        inputs = self.inputs[both] + disturbance.repeat(2, 1) * self.spread
        return inputs, self.error.action(torch.from_numpy(forward(self.teacher, inputs.numpy())[-1]))

    def _labelled(self, observations: FloatArray) -> tuple[Tensor, Tensor]:
        inputs = np.concatenate([self.teacher.inputs(chunk) for chunk in chunks(observations)])
        outputs = np.concatenate([forward(self.teacher, chunk)[-1] for chunk in chunks(inputs)])
        return torch.from_numpy(inputs), torch.from_numpy(outputs)


def spiking_episodes(policy: SpikingPolicy, env: EnvironmentSource, seed: int) -> Generator[npt.NDArray[Any]]:
    """Yield the observations of a spiking policy's own episodes, one after another, as many as are asked for."""
    made, episode = make_environment(env, policy), 0
    try:
        row = EnvironmentRow(made, policy.observation_shape)
        while True:
            obs, over = row.reset(seed + episode), False
            policy.reset(num_envs=1)
            while not over:
                yield obs
                obs, _, terminated, truncated = row.step(policy.act(obs[None])[0])
                over = terminated or truncated
            episode += 1
    finally:
        made.close()
