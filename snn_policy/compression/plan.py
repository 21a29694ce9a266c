"""How much energy a student may need at each step, and with which learning rate: the path that a target sets out.

A target is a number of stretches, at the end of each of which the student is judged. "energy:E": a long one from the
teacher's energy to E, then short ones there. "retention:R": a long one to `FIRST_SHARE` of the teacher's energy, then
short ones, each to `NEXT_SHARE` of the one before, for as long as students pass.
Within a stretch the energy falls along a parabola over its first 60 %, and the learning rate to a fiftieth over its
last half (after Zhu & Gupta 2018, who prune along a cubic; spikes need time to become fewer by themselves).
"""

from dataclasses import dataclass

PRUNING, COOLING = 0.6, 0.5
COLDEST = 0.02
FIRST_STRETCH, NEXT_STRETCH = {"energy": 0.8, "retention": 0.5}, {"energy": 0.1, "retention": 0.125}
"""Shares of all steps."""
NEXT_RATE = 0.3
"""Learning rate of all stretches but the first."""
FIRST_SHARE, NEXT_SHARE = 0.45, 0.8


@dataclass(frozen=True)
class Stretch:
    """Plan steps `begin` to `end`, in which the energy goes from `above` to `goal` (shares of the dense teacher's)."""

    begin: int
    end: int
    above: float
    goal: float

    def energy(self, step: int) -> float:
        """Return what the student may need at this step."""
        done = min(1.0, self.progress(step) / PRUNING)
        return self.goal + (self.above - self.goal) * (1 - done) ** 2

    def pruning(self, step: int) -> bool:
        """Return whether weights may fall; not where the energy is low enough already: then those left are trained."""
        return self.progress(step) <= PRUNING and self.above > 1.05 * self.goal

    def rate(self, step: int) -> float:
        """Return the learning rate's share of its largest value."""
        cooling = min(1.0, max(COLDEST, (1 - self.progress(step)) / COOLING))
        return cooling if self.begin == 0 else NEXT_RATE * cooling

    def progress(self, step: int) -> float:
        return (step - self.begin) / (self.end - self.begin)


def stretch_length(share: float, steps: int, block: int) -> int:
    """Return so large a share of the steps, in whole blocks of steps, at least one."""
    return max(1, round(share * steps / block)) * block
