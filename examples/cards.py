"""What the cards (`policy.json`) of the policies in `exported/` say of their returns."""

from typing import Any

from snn_policy import Comparison, Evaluation


def returns_card(comparison: Comparison) -> dict[str, Any]:
    """Returns of the ANN and of the spiking policy on the same episodes, and what was kept."""
    seeds = comparison.snn.seeds
    return {
        "seeds": [seeds[0], seeds[-1]],
        "ann": _summary(comparison.ann),
        "snn": _summary(comparison.snn),
        "retention_of_means": comparison.retention_of_means,
        "retention_of_medians": comparison.retention_of_medians,
        "ann_failed": comparison.ann_failed,
        "snn_failed": comparison.snn_failed,
        "energy_share": comparison.energy_share,
        "zero_skipping_share": comparison.zero_skipping_share,
        "energies": comparison.energies,
        "versions": comparison.snn.versions,
    }


def _summary(evaluation: Evaluation) -> dict[str, float | None]:
    return {name: getattr(evaluation, name) for name in ("mean", "std", "median", "spikes_per_decision", "events")}
