"""What the user wants of a compression, and how the student is trained: data that checks itself."""

from dataclasses import dataclass
from typing import Literal

from snn_policy.checks import number, require, whole

EXPECTED = "expected 'energy:E' with E in (0, 1), such as energy:0.03, or 'retention:R' with R in (0, 1], such as retention:0.99"  # fmt: skip  # noqa: E501

ADDITIONS, ADD_EVERY = 8, 10
"""How often the student's states are added at most: each time another tenth of the steps is over."""
OBSERVATIONS, ADDED = 60_000, 20_000
"""States recorded, and added at a time. A student with a sixth of the weights learns a few ten thousand by heart."""
STEPS = 40_000
"""By default."""
STEPS_FOR_ALL = 20_000
"""Of runs that get all these states; shorter ones get fewer, in proportion."""
MOST_VALUES = 2**24
"""Numbers in all recorded states together; actors with large observations get fewer states."""
MOST_PICTURE_BYTES = 2**29
"""In all recorded states together, where the first layer is a convolution: 8,400 of 84×84×9 bytes."""
PICTURE_BATCH = 32
"""Pairs of pictures in a step: a step of 128 takes a second."""


@dataclass(frozen=True)
class Target:
    """Set the one knob: what a compression must reach.

    "energy": the spiking student's energy as a share of the dense teacher's (profile fp32-45nm), reached with as much
    return as possible; or "retention": the share of the teacher's mean return that must be kept, with as little energy
    as possible.
    """

    kind: Literal["energy", "retention"]
    value: float

    @classmethod
    def parse(cls, text: object) -> "Target":
        """Read "energy:0.03" or "retention:0.99".

        Raises:
            ValueError: anything else.
        """
        if isinstance(text, Target):
            return text
        kind, colon, value = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        known = (kind == "energy" and 0 < share < 1) or (kind == "retention" and 0 < share <= 1)
        require(bool(colon) and known, f"target {text!r}: {EXPECTED}")
        return cls(kind, share)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"


@dataclass(frozen=True)
class CompressionSettings:
    """Hold what identifies a run beside its teacher and its states.

    Attributes:
        target: see `Target`.
        steps: gradient steps at most.
        seed: of everything: recording, minibatches, the students' episodes, the judging ones.
        block: weights of one source to so many consecutive outputs are pruned together (1, 8, 16, 32).
        count: "spikes" or "events": what the loss counts, and the predictors are chosen by.
        tolerance: of the conversion that the student is made for; None: from a half of the student's own action error
            up to all of it (`tolerances`).
        observations: recorded of the teacher; `added`: of the student's own episodes, each of `ADDITIONS` times.
        batch: pairs of consecutive states in a step.
    """

    target: Target
    steps: int = STEPS
    seed: int = 0
    block: int = 16
    count: str = "spikes"
    tolerance: float | None = None
    observations: int = OBSERVATIONS
    added: int = ADDED
    batch: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        require(self.count in ("spikes", "events"), f"count {self.count!r}: expected spikes or events")
        for name, low, high in (("steps", 1, 10**7), ("seed", 0, 2**30), ("block", 1, 1024), ("batch", 1, 2**16),
                                ("observations", 2, 10**7), ("added", 0, 10**7)):  # fmt: skip
            value = getattr(self, name)
            require(whole(value, low, high), f"{name} {value!r}: expected a whole number from {low} to {high}")
        for name in ("tolerance", "learning_rate"):
            if getattr(self, name) is None:
                continue
            value = number(name, getattr(self, name))
            require(0 < value <= 1, f"{name} {value!r}: expected a number in (0, 1]")


def numbers_of_states(size: int, steps: int, most: int = MOST_VALUES) -> tuple[int, int]:
    """Return how many states to record and to add at a time: of `size` numbers each, for so many gradient steps.

    Args:
        most: numbers in all of them together; of pictures `MOST_PICTURE_BYTES`, with their size in bytes.
    """
    share = min(1.0, steps / STEPS_FOR_ALL, most / (size * (OBSERVATIONS + ADDITIONS * ADDED)))
    return max(2, int(share * OBSERVATIONS)), int(share * ADDED)
