"""What an analysis found, in plain words: what dominates, and what to change. Every sentence has a number."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from snn_policy.analysis.estimates import Estimate

Sections = Mapping[str, Mapping[str, Estimate]]
About = Mapping[str, Any]

NOTICEABLE = 0.02
"""A cosine whose interval stays within it has no direction."""
SLIGHT = 1.0
"""Per cent of the return: what is less is not worth a change."""
WHITE_SHARE = 0.2
STICKS_OFTEN = 0.05
CLEARER = 0.05
"""By so much a cosine must be nearer to 0 at another α for that α to be named."""
KINDS = {
    "bias": "a constant error", "white": "a white error", "low_passed": "a slow error",
    "alternating": "an alternating error",
}  # fmt: skip
REMEDIES = {
    "clipping": 'clipping: raise the thresholds (threshold="max")',
    "quantisation": 'quantisation: take more timesteps, or neuron="sigma-delta"',
    "unevenness": 'unevenness: calibrate the spikes (iterations=1), or take neuron="sigma-delta"',
    "residual": "the residual that is carried: lower α",
}


def observed(sections: Sections, about: About) -> list[str]:
    """Return what was found, what dominates included."""
    parts: tuple[Callable[[Sections, About], list[str]], ...] = (
        _returned, _decomposed, _directed, _left_over, _low, _ablated, _forgiven, _parted, _stuck,
    )  # fmt: skip
    return [sentence for part in parts for sentence in part(sections, about)]


def number(value: float) -> str:
    """Write three figures or a whole number, with a true minus sign; "unknown" for NaN."""
    if not isfinite(value):
        return "unknown"
    size = abs(value)
    if size >= 100 or size == round(size):
        text = f"{size:,.0f}"
    else:
        text = f"{size:.1f}" if size >= 10 else f"{size:.2f}" if size >= 0.095 else f"{size:.3f}"
    return f"−{text}" if value < 0 and float(text.replace(",", "")) else text


def with_interval(found: Estimate, unit: str = "") -> str:
    """Write a mean with its 95 % interval, where there is one, and with the values that it stands on, where few."""
    low, high = found.interval
    interval = f" [{number(low)}, {number(high)}]" if has_interval(found) else ""
    return f"{number(found.mean)}{unit}{interval}{count(found)}"


def count(found: Estimate) -> str:
    """Write how many values a mean stands on where they are few, as " (n = 7)"; else nothing."""
    return f" (n = {found.samples})" if found.few else ""


def _of(found: Estimate) -> str:
    """Write the same within brackets, as ", n = 7"."""
    return f", n = {found.samples}" if found.few else ""


def has_interval(found: Estimate) -> bool:
    """Return whether several episodes were measured, whose spread says how sure the mean is."""
    low = found.interval[0]
    return low == low


def above(found: Estimate, bound: float) -> bool:
    """Return whether the interval, or a mean without one, lies above the bound."""
    return (found.interval[0] if has_interval(found) else found.mean) > bound


def below(found: Estimate, bound: float) -> bool:
    """Return whether the interval, or a mean without one, lies below the bound."""
    return (found.interval[1] if has_interval(found) else found.mean) < bound


def _known(sections: Sections, section: str, name: str) -> Estimate | None:
    found = sections.get(section, {}).get(name)
    return None if found is None or found.mean != found.mean else found


def _returned(sections: Sections, about: About) -> list[str]:
    snn, ann, lost = (_known(sections, "return", name) for name in ("snn", "ann", "lost"))
    if snn is None or ann is None:
        return []
    both = f"The spiking policy returns {number(snn.mean)}, its ANN {number(ann.mean)} ({_episodes(snn)})"
    if lost is None:
        return [f"{both}."]
    if below(lost, 0):
        return [f"{both}: it gains {with_interval(_negative(lost), ' %')}."]
    if above(lost, 0):
        return [f"{both}: it loses {with_interval(lost, ' %')}."]
    return [f"{both}: the loss, {with_interval(lost, ' %')}, may be chance."]


def _decomposed(sections: Sections, about: About) -> list[str]:
    parts = {name: _known(sections, "decomposition", name) for name in ("policy", "states")}
    policy, states = parts["policy"], parts["states"]
    if policy is None or states is None:
        return []
    said = (
        f"Its actions alone, tried in the ANN's states, cost {with_interval(policy, ' %')} of the return; the states "
        f"that it gets into cost {with_interval(states, ' %')}."
    )
    if max(abs(policy.mean), abs(states.mean)) < SLIGHT:
        return [said]
    larger = "The states dominate" if abs(states.mean) > abs(policy.mean) else "The actions dominate"
    return [f"{said} {larger}: {number(max(states.mean, policy.mean, key=abs))} %."]


def _directed(sections: Sections, about: About) -> list[str]:
    found = []
    consistency, correction, drift = (_known(sections, name, name) for name in ("consistency", "correction", "drift"))
    if consistency is not None:
        way = "have no common direction"
        if not has_interval(consistency):
            way = "have no common direction that one episode could show"
        elif above(consistency, NOTICEABLE):
            way = "point the same way and add up"
        elif below(consistency, -NOTICEABLE):
            way = "point in opposite ways and cancel"
        found.append(f"Consecutive errors of the action {way}: their mean cosine is {with_interval(consistency)}.")
    if correction is not None:
        way = "does not turn against the error"
        if not has_interval(correction):
            way = "may or may not turn against the error, which one episode cannot show"
        elif below(correction, -NOTICEABLE):
            way = "turns against the error that the plant has just suffered"
        after = "" if drift is None else f"; with the spiking policy's own next error it is {with_interval(drift)}"
        found.append(f"The ANN {way}: the cosine of its change is {with_interval(correction)}{after}.")
    return found


def _left_over(sections: Sections, about: About) -> list[str]:
    at = _alphas(sections, "residual_cosine")
    if len(at) < 2:
        return []
    first, last = min(at), max(at)
    return [
        f"What neurons leave over has a mean cosine from decision to decision of {with_interval(at[first])} at α = "
        f"{first:g} and of {with_interval(at[last])} at α = {last:g}."
    ]


def _low(sections: Sections, about: About) -> list[str]:
    share = _known(sections, "spectra", "error")
    if share is None:
        return []
    kind = "mostly slow" if above(share, 0.5) else "slower than white" if above(share, WHITE_SHARE) else "not slow"
    return [
        f"The error is {kind}: {with_interval(_hundred(share), ' %')} of its power lies below a tenth of the decision "
        f"rate, where a plant follows it (of a white one 20 %)."
    ]


def _forgiven(sections: Sections, about: About) -> list[str]:
    measured = ((kind, _known(sections, "sensitivity", f"{kind}@1.0")) for kind in KINDS)
    costs = {kind: cost for kind, cost in measured if cost is not None}
    if len(costs) < 2:
        return []
    if not any(cost.mean for cost in costs.values()):
        return ["No disturbance of the error's power costs anything in this task (0 % of the ANN's return)."]
    worst, least = (pick(costs, key=lambda kind: costs[kind].mean) for pick in (max, min))
    return [
        f"Of disturbances of one power, {KINDS[worst]} hurts this task most ({with_interval(costs[worst], ' %')} of "
        f"the ANN's return) and {KINDS[least]} least ({with_interval(costs[least], ' %')})."
    ]


def _parted(sections: Sections, about: About) -> list[str]:
    snn, ann = (_known(sections, "divergence", f"{name}_half_way") for name in ("snn", "disturbed"))
    if snn is None or ann is None:
        return []
    length = _known(sections, "decomposition", "ann_length")

    def shown(found: Estimate) -> str:
        never = length is not None and found.mean >= length.mean
        return f"{'more than ' if never else ''}{number(found.mean)}"

    return [
        f"States from a common start are half as far apart as those of unrelated episodes after {shown(snn)} decisions "
        f"(SNN and ANN{_of(snn)}); an ANN that is disturbed once, a little, and the ANN after {shown(ann)}{count(ann)}."
    ]


def _stuck(sections: Sections, about: About) -> list[str]:
    share, longest = (_known(sections, "sticking", name) for name in ("share", "longest"))
    if share is None or longest is None:
        return []
    if not share.mean:
        return ["It never sticks: 0 decisions keep the action while the ANN's moves."]
    found = [
        f"In {number(100 * share.mean)} % of the decisions{count(share)} its action stays although the ANN's moves, "
        f"for {number(longest.mean)} decisions in a row at the longest of an episode (mean{_of(longest)})."
    ]
    wrong, episodes = (_known(sections, "sticking", name) for name in ("wrong_rests", "resting_episodes"))
    if wrong is not None and wrong.mean and episodes is not None:
        found.append(
            f"It rests on an action that the ANN would not hold in {number(100 * wrong.mean)} % of the "
            f"decisions{count(wrong)}, in "
            f"{number(100 * episodes.mean)} % of the episodes{count(episodes)}."
        )
    return found


def _ablated(sections: Sections, about: About) -> list[str]:
    worst, as_is = _worst_source(sections), _known(sections, "ablation", "error_none")
    if worst is None or as_is is None:
        return []
    error, gain = (_known(sections, "ablation", f"{what}_{worst}") for what in ("error", "gain"))
    uneven = _known(sections, "ablation", "error_unevenness")
    returned = "" if gain is None else f"; the return changes by {with_interval(gain, ' %')} of the ANN's"
    found = [
        f"Of the sources of error, {worst} is the largest: without it the action error goes from {number(as_is.mean)} "
        f"to {number(error.mean if error else float('nan'))} half-ranges{count(as_is)}{returned}."
    ]
    if worst == "quantisation" and uneven is not None:
        found.append(
            "Without quantisation spikes cannot be uneven nor leave residuals; without unevenness alone the error is "
            f"{number(uneven.mean)} half-ranges{count(uneven)}."
        )
    return found


def _worst_source(sections: Sections) -> str | None:
    """Return the source without which the action error is smallest, if that is smaller than as converted."""
    errors = {name: _known(sections, "ablation", f"error_{name}") for name in ("none", *REMEDIES)}
    means = {name: found.mean for name, found in errors.items() if found is not None}
    best = min(means, key=lambda name: means[name], default="none")
    return None if best == "none" else best


def advice(sections: Sections, about: About) -> list[str]:
    """Return what to change: α, the tolerance, the neuron, or nothing."""
    lost, wrong, share = (_known(sections, *name) for name in
                          (("return", "lost"), ("sticking", "resting_episodes"), ("sticking", "share")))  # fmt: skip
    rests = wrong is not None and wrong.mean > 0
    sticks = rests or (share is not None and above(share, STICKS_OFTEN))
    if lost is not None and not above(lost, 0) and lost.mean < SLIGHT and not rests:
        return [f"Change nothing: no loss is seen, {with_interval(lost, ' %')}."]
    changes = [*_advised_alpha(sections, about, sticks), *_advised_neuron(sections, about)]
    return changes or [f"No setting stands out: try more episodes than {about['episodes']}."]


def _advised_alpha(sections: Sections, about: About, sticks: bool) -> list[str]:
    """Name the α whose errors have the least direction, or a larger one where the policy sticks."""
    now, at = about["conversion"].get("alpha"), _alphas(sections, "consistency")
    current = float(now) if isinstance(now, int | float) else sum(now) / len(now) if now else 0.0
    if sticks and current < 0.5:
        share = sections["sticking"]["share"]
        often = f"{number(100 * share.mean)} % of the decisions{count(share)}"
        return [f"Set α = 0.5 (now {current:g}): it sticks in {often}."]
    own = _known(sections, "consistency", "consistency")
    if not at or own is None:
        return []
    best = min(at, key=lambda alpha: abs(at[alpha].mean))
    if best == current or abs(own.mean) - abs(at[best].mean) < CLEARER:
        return []
    return [
        f"Try α = {best:g} (now {current:g}): the cosine of consecutive errors is {with_interval(at[best])} there, "
        f"{with_interval(own)} now."
    ]


def _advised_neuron(sections: Sections, about: About) -> list[str]:
    error, worst = _known(sections, "error", "error"), _worst_source(sections)
    size = "" if error is None else f" (its action error is {number(error.mean)} half-ranges{_of(error)})"
    if about["neuron"] != "sigma-delta":
        found = [] if worst is None else [f"Against {REMEDIES[worst]}{size}."]
        return found or [f'Take neuron="sigma-delta" or more timesteps than {about["timesteps"]}{size}.']
    tolerance = about["conversion"].get("tolerance")
    if not isinstance(tolerance, int | float):
        return []
    return [f"Halve the tolerance, to {tolerance / 2:g}{size}."]


def _alphas(sections: Sections, section: str) -> dict[float, Estimate]:
    prefix = "alpha_"
    found = sections.get(section, {})
    return {
        float(name.removeprefix(prefix)): value
        for name, value in found.items()
        if name.startswith(prefix) and value.mean == value.mean
    }


def _hundred(found: Estimate) -> Estimate:
    return found._replace(mean=100 * found.mean, interval=(100 * found.interval[0], 100 * found.interval[1]))


def _negative(found: Estimate) -> Estimate:
    low, high = found.interval
    return found._replace(mean=-found.mean, interval=(-high, -low))


def _episodes(found: Estimate) -> str:
    return "1 episode" if found.episodes == 1 else f"means of {found.episodes} episodes"
