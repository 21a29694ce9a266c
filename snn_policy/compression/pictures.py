"""The states of an actor whose first layer is a convolution: kept as they came, bytes mostly, and normalised in torch
when they are asked for.

From a recording alone, pairs of consecutive pictures are disturbed by moving both by up to `SHIFT` pixels, their
borders repeated (Kostrikov et al. 2020), and the teacher is asked what it does there.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.compression.judging import PICTURES_SHARE
from snn_policy.compression.loss import ActionError
from snn_policy.compression.maps import map_of
from snn_policy.compression.settings import MOST_PICTURE_BYTES
from snn_policy.compression.states import States
from snn_policy.errors import warn

SHIFT = 2
AT_ONCE = 64
"""Pictures that the teacher labels at a time."""
PROFILED_VALUES = 2**24
CONVERTED_STRETCHES = 3
"""A conversion takes as many seconds as it sees hundreds of pictures."""
STRETCHES = 32
"""A recording that is too large is thinned out to so many stretches, evenly spread."""


class Pictures(States):
    """Hold consecutive pictures and what the teacher does there; see `States`, of which it has all but `inputs`.

    Attributes:
        profiled: so few that their derivatives fit into memory.

    Args:
        capacity: rows that there will be once all have been added, so that memory is taken only once.
    """

    converted = 300
    quiet, judged = True, PICTURES_SHARE
    least_scale = 1e-3  # the errors of tens of thousands of pixels add up: their quanta are that much finer

    def __init__(self, teacher: Actor, observations: npt.NDArray, capacity: int = 0) -> None:
        self.teacher, self._count = teacher, len(observations)
        self._shape: tuple[int, int, int] = teacher.layers[0].input_shape  # pyright: ignore
        self._store = observations
        if capacity > len(observations):
            self._store = np.empty((capacity, *observations.shape[1:]), observations.dtype)
            self._store[: self._count] = observations
        self._network = [
            (map_of(layer), torch.tensor(layer.weight), torch.tensor(layer.bias), layer.activation)
            for layer in teacher.layers
        ]
        if teacher.normaliser is not None:
            self._mean, self._scale = torch.tensor(teacher.normaliser.mean), torch.tensor(teacher.normaliser.scale)
        rows, values = range(self._count), int(np.prod(observations.shape[1:]))
        self.profiled = max(32, min(States.profiled, PROFILED_VALUES // values))
        total, outputs = torch.zeros(values, dtype=torch.float64), []
        for start in range(0, self._count, AT_ONCE):
            inputs = self.inputs_at(torch.arange(start, min(start + AT_ONCE, self._count)))
            total += inputs.sum(0, dtype=torch.float64)
            outputs.append(self._teachers(inputs))
        self.offset = (total / len(rows)).float()
        taught = torch.cat(outputs)
        self.error = ActionError(teacher, taught.numpy())
        self.actions = self.error.action(taught)

    def __len__(self) -> int:
        return self._count

    @property
    def observations(self) -> npt.NDArray:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return (N, *shape), as they were recorded."""
        return self._store[: self._count]

    @property
    def conversion_rows(self) -> Tensor:
        """Return the rows that a student's conversion is calibrated on: a few stretches, evenly spread."""
        length = self.converted // CONVERTED_STRETCHES
        if len(self) <= self.converted:
            return torch.arange(len(self))
        starts = np.linspace(0, len(self) - length, CONVERTED_STRETCHES).astype(np.int64)
        return torch.from_numpy(starts)[:, None].add(torch.arange(length)).flatten()

    def add(self, observations: npt.NDArray) -> None:
        """Append pictures (N, *shape) of the student's episodes."""
        before, self._count = self._count, self._count + len(observations)
        if self._count > len(self._store):
            self._store = np.concatenate((self._store[:before], observations))
        else:
            self._store[before : self._count] = observations
        rows = torch.arange(before, self._count)
        taught = [self.error.action(self._teachers(self.inputs_at(some))) for some in rows.split(AT_ONCE)]
        self.actions = torch.cat((self.actions, *taught))

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray:
        """Draw how far pairs are moved, (*shape, 2): down and to the right, whole pixels."""
        return rng.integers(-SHIFT, SHIFT + 1, (*shape, 2))

    def batch(self, rows: Tensor, noise: npt.NDArray | None = None) -> tuple[Tensor, Tensor]:
        """Return the rows before the given ones, then these: inputs (2·rows, inputs) and the teacher's actions.

        Args:
            noise: (rows, 2) by which both pictures of a pair are moved: the teacher's actions are then computed anew.
        """
        both = torch.cat((rows - 1, rows))
        if noise is None:
            return self.inputs_at(both), self.actions[both]
        inputs = self._normalised(moved(self.observations[both.numpy()], self._shape, np.tile(noise, (2, 1))))
        return inputs, self.error.action(self._teachers(inputs))

    def inputs_at(self, rows: Tensor) -> Tensor:
        """Return normalised pictures (rows, inputs)."""
        return self._normalised(self.observations[rows.numpy()])

    def _normalised(self, observations: npt.NDArray) -> Tensor:
        x, norm = torch.from_numpy(np.asarray(observations)).float(), self.teacher.normaliser
        if norm is not None:
            x = (x - self._mean).div_(self._scale)
            x = x if norm.clip == np.inf else x.clamp_(-norm.clip, norm.clip)
        return x.flatten(1)

    @torch.no_grad()
    def _teachers(self, x: Tensor) -> Tensor:
        """Return the teacher's outputs (rows, outputs) for normalised pictures."""
        for through, weight, bias, activation in self._network:
            x = through(x, weight, bias)
            x = x if activation is None else activation(x)
        return x


def moved(observations: npt.NDArray, shape: tuple[int, int, int], by: npt.NDArray) -> npt.NDArray:
    """Return pictures (N, *observation_shape), images of `shape`, moved by (N, 2) whole pixels up to `SHIFT`."""
    images = observations.reshape(-1, *shape)
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), "edge")
    result, (_, height, width) = np.empty_like(images), shape
    for image, source, (down, right) in zip(result, padded, SHIFT - by, strict=True):
        image[:] = source[:, down : down + height, right : right + width]
    return result.reshape(observations.shape)


def states_of(teacher: Actor, observations: npt.NDArray, capacity: int = 0) -> States:
    """Return the states that suit a teacher: pictures where its first layer is a convolution."""
    if isinstance(teacher.layers[0], Conv2d):
        return Pictures(teacher, observations, capacity)
    return States(teacher, observations)


def thinned(observations: npt.NDArray) -> npt.NDArray:
    """Return so many of a recording's pictures that they take at most `MOST_PICTURE_BYTES`; warn if any is left out.

    What is kept are stretches of consecutive ones, evenly spread.
    """
    if observations.nbytes <= MOST_PICTURE_BYTES:
        return observations
    most = MOST_PICTURE_BYTES * len(observations) // observations.nbytes
    length = max(2, -(-most // STRETCHES))
    starts = np.linspace(0, len(observations) - length, max(1, most // length)).astype(np.int64)
    kept = np.concatenate([observations[start : start + length] for start in starts])
    warn(
        f"observations: {len(observations)} pictures take {observations.nbytes / 2**30:.1f} GB; {len(kept)} of them, "
        f"in {len(starts)} stretches, are learned from"
    )
    return kept
