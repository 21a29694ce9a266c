"""Which source of error costs an IF conversion its return: every one switched off in turn, all else kept.

The sources are defined in `ablated_network`: clipping, quantisation, unevenness, residual. Measured are

    action error: RMS over the action's entries of a(s_k) − a_ANN(s_k), in half-ranges, along given recorded episodes,
                  the policy's memory following them: the same observations for every variant
    return:       of whole episodes in which the variant itself acts, on the same seeds
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.analysis.ablated_network import SOURCES, AblatedPolicy, check_ablatable
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.traces import Advance, Trace, answers, in_half_ranges
from snn_policy.environments import EnvironmentSource
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.policy import SpikingPolicy

MOST_DECISIONS = 200
"""Of every recorded episode, from its beginning: what action errors are measured on."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ablation:
    """Hold, by the source that is switched off ("none": as converted), one array per episode.

    Attributes:
        errors: (decisions,) action errors along the recorded episodes.
        returns: (1,) the episode's return with the variant acting.
        ann_returns: (1,) of the ANN's own episodes.
    """

    errors: dict[str, list[Values]]
    returns: dict[str, list[Values]]
    ann_returns: list[Values]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return means by "error_SOURCE", "return_SOURCE" and "gain_SOURCE": the paired difference of returns against
        "none", in per cent of the ANN's mean return's size; and `ann_return`."""
        found = {f"error_{source}": estimate(episodes) for source, episodes in self.errors.items()}
        found |= {f"return_{source}": estimate(episodes) for source, episodes in self.returns.items()}
        found["ann_return"] = estimate(self.ann_returns)
        size, base = abs(found["ann_return"].mean), self.returns["none"]
        for source, episodes in self.returns.items():
            if source != "none" and size > 0:
                gains = [100 * (mine - without) / size for mine, without in zip(episodes, base, strict=True)]
                found[f"gain_{source}"] = estimate(gains)
        return found


def ablation(
    policy: SpikingPolicy,
    traces: Sequence[Trace],
    ann_traces: Sequence[Trace],
    env: EnvironmentSource,
    *,
    seed: int,
    advance: Advance = lambda: None,
) -> Ablation:
    """Return the errors and returns of the policy with every source switched off, and as it is.

    Args:
        traces: recorded episodes along which action errors are measured, the policy's own for instance.
        ann_traces: the ANN's own episodes, as many as the variants are to run.
        seed: of the variants' first episode.
        advance: called after every variant.

    Raises:
        UnsupportedLayerError: other neurons than IF under rate coding, or spike calibration.
    """
    check_ablatable(policy.network)
    seen = [trace.observations[:MOST_DECISIONS] for trace in traces]
    errors: dict[str, list[Values]] = {}
    returns: dict[str, list[Values]] = {}
    for source in SOURCES:
        variant = AblatedPolicy(policy.network, source)
        errors[source] = [
            np.sqrt(np.mean((in_half_ranges(policy.actor, given) - trace.ann[: len(given)]) ** 2, axis=1))
            for given, trace in zip(answers(variant, seen), traces, strict=True)
        ]
        returns[source] = _returns(variant, env, len(ann_traces), seed)
        advance()
    return Ablation(errors, returns, [np.array([trace.rewards.sum()]) for trace in ann_traces])


def _returns(policy: SpikingPolicy, env: EnvironmentSource, episodes: int, seed: int) -> list[Values]:
    return [np.array([value]) for value in evaluate(policy, env, episodes=episodes, seed=seed).returns]
