"""What the sections and figures of an analysis are called, in tables and on the page."""

from collections.abc import Mapping
from typing import NamedTuple

from snn_policy.analysis.estimates import MANY, Estimate
from snn_policy.analysis.task_sensitivity import SIZE
from snn_policy.analysis.wording import count, has_interval, number


class Section(NamedTuple):
    """Hold a section's title, what it measures, and the pictures that show it."""

    title: str
    text: str
    pictures: tuple[str, ...] = ()


SECTIONS: dict[str, Section] = {
    "return": Section("Return", "Whole episodes of both policies on the same seeds."),
    "decomposition": Section(
        "What the loss is made of",
        "Mean reward of either policy's action in the states of either policy, states restored one by one. What the "
        "actions alone cost is paid at once; what the states cost is paid for where the errors have led.",
        ("decomposition",),
    ),
    "error": Section(
        "Size of the error",
        "The spiking policy's action less the ANN's at the same observation: root mean square over the action's "
        "entries, in half-ranges (where actions are discrete, over the values that choices compare, in half of their "
        "spread), and the share of decisions in which the two differ at all.",
    ),
    "consistency": Section(
        "SNN consistency",
        "Mean cosine of the error in a decision and in the next. Above 0 errors point the same way and add up.",
        ("cosines",),
    ),
    "correction": Section(
        "ANN correction",
        "Mean cosine of an error and of how the ANN changes its action because of it. Below 0 the ANN steers back.",
    ),
    "drift": Section("SNN drift", "The same with the spiking policy's next action in place of the ANN's."),
    "residual_cosine": Section(
        "Residuals",
        "Mean cosine of what a layer's neurons leave over in a decision and in the next, by layer; and at other shares "
        "α of it carried on.",
    ),
    "spectra": Section(
        "Slow and fast errors",
        "Share of the power below a tenth of the decision rate: 1 for a constant error, 0.2 for white noise, 0 for one "
        "that alternates. A plant follows what is slow.",
        ("spectra",),
    ),
    "ablation": Section(
        "Sources of the error",
        "Every source switched off in turn, all else kept: no upper limit of the rate, exact rates, even spikes, no "
        "residual carried. Action errors in half-ranges; a discrete action is one-hot.",
        ("ablation",),
    ),
    "sensitivity": Section(
        "What the task forgives",
        "Return that the ANN loses when its own action is disturbed: by a constant, a white, a slow and an alternating "
        f"error of {SIZE:g} half-ranges (RMS), with the action scaled down and up; where actions are discrete, the "
        "values that they compare, in half of their spread.",
        ("sensitivity",),
    ),
    "divergence": Section(
        "How fast states part",
        "Distance of the spiking policy's states from the ANN's since a common start, in the spreads of the ANN's; "
        "beside it the ANN disturbed once, a little, and unrelated episodes.",
        ("divergence",),
    ),
    "sticking": Section(
        "Sticking",
        "Decisions in which the action stays although the ANN's, asked at the same observations, moves.",
        ("actions",),
    ),
    "embedding": Section(
        "States visited",
        "The two principal components of the ANN's states; outside: beyond 99 % of the ANN's own.",
        ("embedding", "tsne"),
    ),
}

FIGURES = {
    "return": {"snn": "SNN", "ann": "ANN", "lost": "lost, % of the ANN's"},
    "error": {"error": "RMS", "changed": "share of decisions that differ"},
    "decomposition": {
        "states": "the states it gets into, %", "policy": "its actions alone, %", "interaction": "both together, %",
        "length": "the episode's length, %", "lost": "lost altogether, %", "ann_in_ann": "reward: ANN in ANN's states",
        "snn_in_ann": "reward: SNN in ANN's states", "ann_in_snn": "reward: ANN in SNN's states",
        "snn_in_snn": "reward: SNN in SNN's states", "ann_return": "return: ANN", "snn_return": "return: SNN",
        "ann_length": "decisions: ANN", "snn_length": "decisions: SNN",
    },
    "spectra": {"error": "error: slow share", "action": "ANN's action: slow share"},
    "sticking": {
        "share": "share of decisions", "longest": "longest run of an episode",
        "moves": "share in which the ANN's moves", "rests": "share at rest",
        "wrong_rests": "share at rest where the ANN would not be", "resting_episodes": "episodes with such a rest",
    },
    "embedding": {
        "outside": "SNN's states outside", "distance": "SNN: distance from the ANN's mean",
        "ann_distance": "ANN: distance from its mean",
    },
    "ablation": {"error_none": "action error as converted", "ann_return": "return: ANN"},
    "divergence": {
        "snn": "SNN from ANN, mean", "disturbed": "ANN disturbed once, mean", "unrelated": "unrelated episodes, mean",
        "snn_half_way": "SNN: decisions until half way", "disturbed_half_way": "ANN disturbed: until half way",
    },
    "residual_cosine": {"all": "all layers"},
    "consistency": {"beside_ann": "beside the ANN, in its states"},
}  # fmt: skip
"""Names of figures, where their keys do not say enough."""


def label(section: str, name: str) -> str:
    """Return what a figure is called."""
    known = FIGURES.get(section, {}).get(name)
    if known is not None:
        return known
    if name == section:
        return "as converted"
    head, _, tail = name.partition("_")
    if head == "alpha":
        return f"at α = {tail}"
    if section == "ablation":
        of, unit = {"error": ("action error", ""), "gain": ("return gained", ", %")}.get(head, (head, ""))
        return f"{of} as converted" if tail == "none" else f"{of} without {tail}{unit}"
    if section == "spectra" and tail.isdigit():
        what = "error" if head == "error" else "ANN's action"
        return f"{what} {tail}: slow share"
    if "@" in name:
        kind, _, gain = name.partition("@")
        return f"{kind.replace('_', '-')}, gain {float(gain):g}: % lost"
    return name.replace("_", " ")


COUNTS = f"n: values that a mean stands on (decisions, segments or episodes), where fewer than {MANY}"


def rows(section: str, summary: Mapping[str, Estimate]) -> list[tuple[str, str, str]]:
    """Return a section's figures as texts: what, with how many values it stands on where few (" (n = 7)"), the mean,
    the 95 % interval ("–" where there is none, or nothing to measure)."""
    found = []
    for name, value in summary.items():
        low, high = value.interval
        interval = f"{number(low)} to {number(high)}" if has_interval(value) else "–"
        mean = number(value.mean) if value.mean == value.mean else "–"
        found.append((label(section, name) + count(value), mean, interval))
    return found
