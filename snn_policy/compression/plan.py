"""How much energy a student may need at each step, and with which learning rate: the path that a target sets out.

"energy:E" is one stretch, from the teacher's energy to E. "retention:R" is several: a long one to `FIRST_SHARE` of the
teacher's energy, then short ones, each to `NEXT_SHARE` of the one before, for as long as students pass.
Within a stretch the energy falls along a cubic (Zhu & Gupta 2018) over its first 60 %, and the learning rate to a
fiftieth over its last 40 %.
"""

from dataclasses import dataclass

PRUNING, COOLING = 0.6, 0.4
COLDEST = 0.02
FIRST_STRETCH, NEXT_STRETCH = 0.5, 0.125
FIRST_SHARE, NEXT_SHARE = 0.45, 0.8


@dataclass(frozen=True)
class Stretch:
    """Steps `begin` to `end`, in which the energy goes from `above` to `goal` (shares of the dense teacher's)."""

    begin: int
    end: int
    above: float
    goal: float

    def energy(self, step: int) -> float:
        """What the student may need at this step."""
        done = min(1.0, self.progress(step) / PRUNING)
        return self.goal + (self.above - self.goal) * (1 - done) ** 3

    def pruning(self, step: int) -> bool:
        return self.progress(step) <= PRUNING

    def rate(self, step: int) -> float:
        """The learning rate's share of its largest value."""
        return min(1.0, max(COLDEST, (1 - self.progress(step)) / COOLING))

    def progress(self, step: int) -> float:
        return (step - self.begin) / (self.end - self.begin)


def stretch_length(share: float, steps: int, block: int) -> int:
    """So large a share of the steps, in whole blocks of steps, at least one."""
    return max(1, round(share * steps / block)) * block
