"""Power spectra of the action's error and of the ANN's action: which errors a plant filters, and which it follows.

Welch's method: an episode is cut into segments of N decisions that overlap by half (shorter episodes: their longest
power of two, of at least 8), each weighted by a Hann window w. With frequencies f in cycles per decision, 0 to 1/2,

    P(f) = c_f·|Σ_k w_k·x_k·exp(−2πi·f·k)|² / (N·Σ w_k²),   c_f = 1 at 0 and 1/2, else 2

so that Σ P is the mean square of x. The mean is not taken off: a constant error is power at f = 0.

    low share = Σ_{f < 1/10} P(f) / Σ P(f)

1 of a constant error, 1/5 of a white one, 0 of one that alternates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.traces import Trace

LOW = 0.1
"""Of the decision rate: power below it is low."""
SEGMENT, SHORTEST = 128, 8

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Hold the power of every segment; lists have one array, (segments, frequencies, actions), per episode.

    Attributes:
        frequencies: (frequencies,) in cycles per decision.
        error: of e = a_SNN − a_ANN, in half-ranges squared.
        action: of a_ANN at the same observations.
    """

    frequencies: Values
    error: list[Values]
    action: list[Values]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the low shares: `error` and `action` of all dimensions together, `error_0`, … of every one."""
        found = {}
        for name, episodes in (("error", self.error), ("action", self.action)):
            found[name] = estimate([self._low_share(powers.sum(axis=2)) for powers in episodes])
            for dimension in range(episodes[0].shape[2] if episodes else 0):
                found[f"{name}_{dimension}"] = estimate(
                    [self._low_share(powers[:, :, dimension]) for powers in episodes]
                )
        return found

    def mean_power(self, episodes: Sequence[Values]) -> Values:
        """Return the mean over all segments of all episodes, (frequencies, actions)."""
        return np.concatenate(list(episodes)).mean(axis=0)

    def _low_share(self, powers: Values) -> Values:
        """Return the low share of segments' powers (segments, frequencies); NaN where there is no power."""
        low, total = powers[:, self.frequencies < LOW].sum(axis=1), powers.sum(axis=1)
        return np.divide(low, total, out=np.full(len(total), np.nan), where=total > 0)


def spectra(traces: Sequence[Trace], segment: int = SEGMENT) -> Spectra:
    """Return the spectra along recorded episodes; those that are too short for one segment have none.

    Args:
        segment: N; where the longest episode is shorter, its longest power of two.

    Raises:
        ValueError: no episode has 8 decisions.
    """
    longest = max((len(trace.actions) for trace in traces), default=0)
    if longest < SHORTEST:
        raise ValueError(f"spectra: the longest episode has {longest} decisions, at least {SHORTEST} are needed")
    length = min(segment, 2 ** int(np.log2(longest)))
    return Spectra(
        np.fft.rfftfreq(length).astype(np.float64),
        [_powers(trace.errors, length) for trace in traces],
        [_powers(trace.ann, length) for trace in traces],
    )


def _powers(values: Values, length: int) -> Values:
    """Return P of every segment, (segments, frequencies, components)."""
    window = np.hanning(length + 1)[:-1]
    starts = range(0, len(values) - length + 1, max(1, length // 2))
    frequencies = length // 2 + 1
    if not len(starts):
        return np.zeros((0, frequencies, values.shape[1]))
    segments = np.stack([values[start : start + length] for start in starts]) * window[None, :, None]
    doubled = np.where((np.arange(frequencies) == 0) | (np.arange(frequencies) == length / 2), 1.0, 2.0)
    powers = np.abs(np.fft.rfft(segments, axis=1)) ** 2 / (length * np.sum(window**2))
    return powers * doubled[None, :, None]
