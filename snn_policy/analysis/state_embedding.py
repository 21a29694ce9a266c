"""The states that ANN and SNN visit, in two dimensions: PCA; t-SNE where scikit-learn is installed.

x: a normalised observation, less the mean of the ANN's, each entry by the standard deviation of the ANN's. X = U·S·Vᵀ
of the ANN's x; a state's place is its first two components x·V₁, x·V₂, by their spread σ₁, σ₂ over the ANN's states:

    distance_k = √((x_k·V₁/σ₁)² + (x_k·V₂/σ₂)²)
    outside: share of decisions whose distance exceeds the ANN's 99th percentile: 0.01 where both visit the same states
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.traces import Trace

PERCENTILE = 99
MOST_ROWS, MOST_ENTRIES = 2_000, 2**22
"""States that the axes are fitted to, evenly drawn from all; fewer where observations are large."""
PERPLEXITY = 30.0
"""Of t-SNE: about how many neighbours a state has; fewer where there are few states."""
FLAT = 1e-6
"""An entry with a smaller spread never changes, and has no place."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedding:
    """Hold the states' places: lists have one array, (decisions, 2), per episode, in standard deviations of the ANN's.

    Attributes:
        explained: (2,) the shares of the ANN's variance along the two axes.
    """

    ann: list[Values]
    spiking: list[Values]
    explained: Values

    @property
    def outside(self) -> list[npt.NDArray[np.bool_]]:
        """Return, per episode of the SNN, which states lie farther out than 99 % of the ANN's, (decisions,)."""
        bound = np.percentile(np.concatenate([_distances(places) for places in self.ann]), PERCENTILE)
        return [_distances(places) > bound for places in self.spiking]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the SNN's share of states `outside`, and both policies' mean `distance` from the ANN's mean."""
        return {
            "outside": estimate(self.outside),
            "distance": estimate([_distances(places) for places in self.spiking]),
            "ann_distance": estimate([_distances(places) for places in self.ann]),
        }


def embedding(actor: Actor, ann: Sequence[Trace], spiking: Sequence[Trace]) -> Embedding:
    """Return the places of the states along the ANN's own episodes and the SNN's.

    Raises:
        ValueError: no episodes of the ANN, or observations that never change.
    """
    ours = [_flat(actor, trace) for trace in ann]
    theirs = [_flat(actor, trace) for trace in spiking]
    if not ours:
        raise ValueError("embedding: no episodes of the ANN")
    fitted = _drawn(np.concatenate(ours), min(MOST_ROWS, max(2, MOST_ENTRIES // ours[0].shape[1])))
    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    kept = spread > FLAT
    if not kept.any():
        raise ValueError("embedding: the ANN's observations never change")

    def standardised(values: Values) -> Values:
        return (values[:, kept] - mean[kept]) / spread[kept]

    _, sizes, axes = np.linalg.svd(standardised(fitted), full_matrices=False)
    axes, scale = axes[:2], sizes[:2] / np.sqrt(len(fitted))
    explained = np.zeros(2)
    explained[: len(scale)] = (sizes**2 / np.sum(sizes**2))[:2]

    def places(values: Values) -> Values:
        found = np.zeros((len(values), 2))
        found[:, : len(axes)] = standardised(values) @ axes.T / np.where(scale > FLAT, scale, 1.0)
        return found

    return Embedding([places(values) for values in ours], [places(values) for values in theirs], explained)


def tsne(
    actor: Actor, ann: Sequence[Trace], spiking: Sequence[Trace], *, points: int = 1_000, seed: int = 0
) -> tuple[Values, Values]:
    """Return t-SNE places of evenly drawn states of both policies, ((n, 2), (m, 2)); needs scikit-learn.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed; the message says how to.
    """
    try:
        from sklearn.manifold import TSNE  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        message = "t-SNE needs scikit-learn: pip install scikit-learn"
        raise ModuleNotFoundError(message, name="sklearn") from None
    drawn = [_drawn(np.concatenate([_flat(actor, trace) for trace in traces]), points) for traces in (ann, spiking)]
    both = np.concatenate(drawn)
    spread = both.std(axis=0)
    standardised = (both - both.mean(axis=0)) / np.where(spread > FLAT, spread, 1.0)
    neighbours = min(PERPLEXITY, (len(both) - 1) / 3)
    places = TSNE(perplexity=neighbours, random_state=seed).fit_transform(standardised)
    return places[: len(drawn[0])], places[len(drawn[0]) :]


def _flat(actor: Actor, trace: Trace) -> Values:
    """Return normalised, flattened observations, (K, inputs)."""
    return np.asarray(actor.inputs(trace.observations.astype(np.float32, copy=False)), np.float64)


def _drawn(rows: Values, count: int) -> Values:
    """Return at most so many rows, evenly drawn."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))]


def _distances(places: Values) -> Values:
    return np.sqrt((places**2).sum(axis=1))
