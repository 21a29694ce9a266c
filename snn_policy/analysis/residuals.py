"""Whether what neurons leave over points the same way decision after decision, and how it goes with the ANN's changes.

r_k: what a layer's neurons owe after decision k (`leftover`): of IF, SNM and MT the membrane's v[T] − v[0], bounded as
CRPI carries it (docs/methods.md §2), of sigma-delta v − Σs. cos is that of the angle between two vectors; it does not
exist where one of them is zero.

    residual cosine, per layer:   cos(r_k, r_{k+1}); at lag j: cos(r_k, r_{k+j})
    withheld from the action:     u_k = Σ W·r_k over what the last layer reads: how far the action's input falls short
    error with itself:            cos(e_k, e_{k+j}),   e_k = a_SNN(s_k) − a_ANN(s_k)
    error with the ANN's changes: cos(e_k, Δ_{k+j}),   Δ_k = a_ANN(s_{k+1}) − a_ANN(s_k)
    residual with the changes:    cos(u_k, Δ_{k+j})
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.traces import Advance, Trace, record_traces
from snn_policy.analysis.variants import with_alpha
from snn_policy.ann.graph import Graph
from snn_policy.environments import EnvironmentSource
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.neurons import SigmaDeltaNeurons

ALPHAS = (0.0, 0.5, 1.0)
LAGS = (1, 2, 4, 8, 16)
CHANGE_LAGS = (-8, -4, -2, -1, 0, 1, 2, 4, 8)
"""j < 0: what the ANN did before; j = 0: its change right after the decision."""

Values = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ResidualCosines:
    """Hold the cosines of every decision: lists have one array, (decisions,), per episode.

    Attributes:
        layers: layer → lag → cos(r_k, r_{k+lag}).
        errors: lag → cos(e_k, e_{k+lag}).
        errors_with_changes: lag → cos(e_k, Δ_{k+lag}).
        residuals_with_changes: lag → cos(u_k, Δ_{k+lag}); empty where no residuals were recorded.
    """

    layers: dict[str, dict[int, list[Values]]]
    errors: dict[int, list[Values]]
    errors_with_changes: dict[int, list[Values]]
    residuals_with_changes: dict[int, list[Values]]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the mean cosine of consecutive residuals by layer; `all` pools the layers."""
        found = {name: estimate(lags[1]) for name, lags in self.layers.items()}
        if found:
            pooled = [
                np.concatenate(layers) for layers in zip(*(lags[1] for lags in self.layers.values()), strict=True)
            ]
            found["all"] = estimate(pooled)
        return found

    @property
    def by_lag(self) -> dict[str, dict[int, Estimate]]:
        """Return the means of everything by lag: the layers' names, then the names of the other fields."""
        others = {
            "errors": self.errors,
            "errors_with_changes": self.errors_with_changes,
            "residuals_with_changes": self.residuals_with_changes,
        }
        return {
            name: {lag: estimate(episodes) for lag, episodes in lags.items()}
            for name, lags in (self.layers | others).items()
        }


def residual_cosines(policy: SpikingPolicy, traces: Sequence[Trace]) -> ResidualCosines:
    """Return all cosines along recorded episodes of the policy.

    Args:
        traces: of `record_traces(policy, …)`.
    """
    network = policy.network
    known = [trace for trace in traces if trace.residuals]
    layers = {
        name: {lag: [lagged_cosines(trace.residuals[i], trace.residuals[i], lag) for trace in known] for lag in LAGS}
        for i, name in enumerate(network.layer_names)
        if known
    }
    changes = [np.diff(trace.ann, axis=0) for trace in traces]
    errors = [trace.errors for trace in traces]
    last = 0 if isinstance(network.neurons, SigmaDeltaNeurons) else 1
    withheld = [withheld_from_action(network.actor.graph, trace, last) for trace in known]
    own_changes = [np.diff(trace.ann, axis=0) for trace in known]
    return ResidualCosines(
        layers,
        {lag: [lagged_cosines(e, e, lag) for e in errors] for lag in LAGS},
        {lag: [lagged_cosines(e, d, lag) for e, d in zip(errors, changes, strict=True)] for lag in CHANGE_LAGS},
        {lag: [lagged_cosines(u, d, lag) for u, d in zip(withheld, own_changes, strict=True)] for lag in CHANGE_LAGS},
    )


def residual_cosines_by_alpha(
    policy: SpikingPolicy,
    env: EnvironmentSource,
    *,
    alphas: Sequence[float] = ALPHAS,
    episodes: int,
    seed: int,
    advance: Advance = lambda: None,
) -> dict[float, ResidualCosines]:
    """Return the cosines along episodes of the same conversion at every α, always on the same seeds."""
    found = {}
    for alpha in alphas:
        variant = with_alpha(policy, alpha)
        traces = record_traces(variant, policy.actor, env, episodes=episodes, seed=seed, advance=advance)
        found[float(alpha)] = residual_cosines(variant, traces)
    return found


def withheld_from_action(graph: Graph, trace: Trace, first: int) -> Values:
    """Return u, (R, outputs), what the last layer's input falls short of for what the layers before it owe.

    Args:
        first: the stage that the trace's first residual belongs to: 0 of sigma-delta, 1 of others.
    """
    total = np.zeros((len(trace.residuals[0]), graph.outputs))
    for one in graph.stages[-1].connections:
        if one.source >= first:
            residual = trace.residuals[one.source - first]
            total = total + (one.map(residual) - one.map(np.zeros_like(residual[:1])))
    return total


def lagged_cosines(left: Vectors, right: Vectors, lag: int) -> Values:
    """Return cos(left_k, right_{k+lag}) of every k for which both exist, (decisions,); NaN where a vector is zero.

    Args:
        left, right: (decisions, components); they may have different lengths.
        lag: may be negative.
    """
    first, end = max(0, -lag), min(len(left), len(right) - lag)
    if end <= first:
        return np.zeros(0)
    a, b = np.asarray(left[first:end], np.float64), np.asarray(right[first + lag : end + lag], np.float64)
    sizes = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    products = (a * b).sum(axis=1)
    return np.divide(products, sizes, out=np.full(len(a), np.nan), where=sizes > 0)
