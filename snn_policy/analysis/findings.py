"""What an analysis found, in plain words: what dominates, and what to change. Every sentence has a number."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.wording import (
    above,
    apart,
    below,
    count,
    counted,
    has_interval,
    number,
    scaled,
    sure,
    with_interval,
    within_brackets,
)

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
SMALLER = 0.95
"""Of the error as converted: a source without which more than this is left is no source to name."""
DOMINATES = {
    "policy": "The actions dominate", "states": "The states dominate", "length": "The episodes' length dominates",
}  # fmt: skip
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


def unit(about: About, what: Literal["values", "choices"]) -> str:
    """Return what errors are measured in: of discrete actions those of the last layer's `values`, or of `choices`."""
    if not about.get("discrete"):
        return "half-ranges"
    return "half-spreads of the values" if what == "values" else "(choices, one-hot)"


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
    if lost.mean == 0 and not (has_interval(lost) and any(lost.interval)):
        return [f"{both}: it loses nothing, {with_interval(lost, ' %')}."]
    if sure(lost):
        verb, size = ("loses", lost) if lost.mean > 0 else ("gains", scaled(lost, -1))
        return [f"{both}: it {verb} {with_interval(size, ' %')}."]
    return [f"{both}: the loss, {with_interval(lost, ' %')}, may be chance."]


def _decomposed(sections: Sections, about: About) -> list[str]:
    parts = {name: _known(sections, "decomposition", name) for name in DOMINATES}
    policy, states, length = parts.values()
    if policy is None or states is None:
        return []
    said = (
        f"Its actions alone, tried in the ANN's states, {_cost(policy)} of the return; the states that it gets into "
        f"{_cost(states)}"
    )
    if length is not None and abs(length.mean) >= SLIGHT:
        said += f"; episodes of another length than the ANN's {_cost(length)}"
    name, largest = max(((n, p) for n, p in parts.items() if p is not None), key=lambda part: abs(part[1].mean))
    lost = _known(sections, "return", "lost")
    settled = lost is None or (sure(lost) and lost.mean * largest.mean > 0)
    undone = any(part is not None and part.mean * largest.mean < -0.5 * largest.mean**2 for part in parts.values())
    if abs(largest.mean) < SLIGHT or not sure(largest) or not settled or undone:
        return [f"{said}."]
    return [f"{said}. {DOMINATES[name]}: {number(largest.mean)} %."]


def _cost(found: Estimate) -> str:
    """Write what a part costs or gains, in per cent."""
    return f"cost {with_interval(found, ' %')}" if found.mean >= 0 else f"gain {with_interval(scaled(found, -1), ' %')}"


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
        what = "the values that choices compare" if about.get("discrete") else "the action"
        found.append(f"Consecutive errors of {what} {way}: their mean cosine is {with_interval(consistency)}.")
    if correction is not None:
        way = "turns neither against the error nor with it"
        if not has_interval(correction):
            way = "may or may not turn against the error, which one episode cannot show"
        elif below(correction, -NOTICEABLE):
            way = "turns against the error that the plant has just suffered"
        elif above(correction, NOTICEABLE):
            way = "turns with the error that the plant has just suffered"
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
    what = "error of the choice" if about.get("discrete") else "error"
    shown = f"{with_interval(scaled(share, 100), ' %')} of its power lies below a tenth of the decision rate"
    if share.few or not has_interval(share):
        return [f"How slow the {what} is, so little hardly shows: {shown} (of a white one 20 %)."]
    kind = "about as slow as white noise"
    if above(share, WHITE_SHARE):
        kind = "mostly slow" if above(share, 0.5) else "slower than white noise"
    elif below(share, WHITE_SHARE):
        kind = "faster than white noise"
    return [f"The {what} is {kind}: {shown}, where a plant follows it (of a white one 20 %)."]


def _forgiven(sections: Sections, about: About) -> list[str]:
    measured = ((kind, _known(sections, "sensitivity", f"{kind}@1.0")) for kind in KINDS)
    costs = {kind: cost for kind, cost in measured if cost is not None}
    if len(costs) < 2:
        return []
    size = about.get("disturbance")
    power = "one power" if size is None else f"{number(size)} {unit(about, 'values')} (RMS)"
    if not any(cost.mean for cost in costs.values()):
        return [f"No disturbance of {power} costs anything in this task (0 % of the ANN's return)."]
    worst, least = (pick(costs, key=lambda kind: costs[kind].mean) for pick in (max, min))
    most = with_interval(costs[worst], " %")
    if not has_interval(costs[worst]):
        return [f"Of disturbances of {power}, {KINDS[worst]} cost most in one episode, {most}, which may be chance."]
    if not above(costs[worst], 0):
        return [
            f"No disturbance of {power} costs anything for certain: at most {most} of the ANN's return "
            f"({KINDS[worst]})."
        ]
    return [
        f"Of disturbances of {power}, {KINDS[worst]} hurts this task most ({most} of "
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
        f"States from a common start are half as far apart as those of unrelated episodes after {shown(snn)} "
        f"decision{'' if snn.mean == 1 else 's'} (SNN and ANN{within_brackets(snn)}); an ANN that is disturbed once, "
        f"a little, and the ANN after {shown(ann)}{count(ann)}."
    ]


def _stuck(sections: Sections, about: About) -> list[str]:
    share, longest, moves = (_known(sections, "sticking", name) for name in ("share", "longest", "moves"))
    if share is None or longest is None:
        return []
    if moves is not None and not moves.mean:
        found = ["Nothing could stick: the ANN's action moves in 0 % of the decisions."]
    elif not share.mean:
        found = ["It never sticks: 0 decisions keep the action while the ANN's moves."]
    else:
        found = [
            f"In {number(100 * share.mean)} % of the decisions{count(share)} its action stays although the ANN's "
            f"moves, for {counted(longest.mean, 'decision')} in a row at the longest of an episode "
            f"(mean{within_brackets(longest)})."
        ]
    wrong, episodes = (_known(sections, "sticking", name) for name in ("wrong_rests", "resting_episodes"))
    if wrong is not None and wrong.mean and episodes is not None:
        found.append(
            f"It rests on an action that the ANN would not hold in {number(100 * wrong.mean)} % of the "
            f"decisions{count(wrong)}, in {number(100 * episodes.mean)} % of the episodes{count(episodes)}."
        )
    return found


def _ablated(sections: Sections, about: About) -> list[str]:
    worst, as_is = _worst_source(sections), _known(sections, "ablation", "error_none")
    if worst is None or as_is is None:
        return []
    error, gain = (_known(sections, "ablation", f"{what}_{worst}") for what in ("error", "gain"))
    uneven = _known(sections, "ablation", "error_unevenness")
    returned = "" if gain is None else f"; the return changes by {with_interval(gain, ' %')} of the ANN's"
    measured = unit(about, "choices")
    found = [
        f"Of the sources of error, {worst} is the largest: without it the action error goes from {number(as_is.mean)} "
        f"to {number(error.mean if error else float('nan'))} {measured}{count(as_is)}{returned}."
    ]
    if worst == "quantisation" and uneven is not None:
        found.append(
            "Without quantisation spikes cannot be uneven nor leave residuals; without unevenness alone the error is "
            f"{number(uneven.mean)} {measured}{count(uneven)}."
        )
    return found


def _worst_source(sections: Sections) -> str | None:
    """Return the source without which the action error is smallest, if that is clearly smaller than as converted."""
    errors = {name: _known(sections, "ablation", f"error_{name}") for name in ("none", *REMEDIES)}
    means = {name: found.mean for name, found in errors.items() if found is not None}
    best = min(means, key=lambda name: means[name], default="none")
    return None if best == "none" or means[best] > SMALLER * means.get("none", 0.0) else best


def advice(sections: Sections, about: About) -> list[str]:
    """Return what to change: α, the tolerance, the neuron, or nothing."""
    lost, wrong, share = (_known(sections, *name) for name in
                          (("return", "lost"), ("sticking", "resting_episodes"), ("sticking", "share")))  # fmt: skip
    rests = wrong is not None and wrong.mean > 0
    sticks = rests or (share is not None and above(share, STICKS_OFTEN))
    if lost is not None and not has_interval(lost) and not rests:
        return [f"Take more episodes than 1 first: of one the loss, {with_interval(lost, ' %')}, says little."]
    if lost is not None and not above(lost, 0) and lost.mean < SLIGHT and not rests:
        return [f"Change nothing: no loss is seen, {with_interval(lost, ' %')}."]
    changes = [*_advised_alpha(sections, about, sticks), *_advised_neuron(sections, about)]
    if lost is not None and not above(lost, 0) and not rests:
        first = (
            f"Take more episodes than {about['episodes']} first: the loss, {with_interval(lost, ' %')}, may be chance."
        )
        return [first, *changes]
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
    if best == current or abs(own.mean) - abs(at[best].mean) < CLEARER or not apart(own, at[best]):
        return []
    return [
        f"Try α = {best:g} (now {current:g}): the cosine of consecutive errors is {with_interval(at[best])} there, "
        f"{with_interval(own)} now."
    ]


def _advised_neuron(sections: Sections, about: About) -> list[str]:
    error, worst = _known(sections, "error", "error"), _worst_source(sections)
    of = f"its error is {number(error.mean)} {unit(about, 'values')}{within_brackets(error)}" if error else ""
    size = f" ({of})" if of else ""
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


def _episodes(found: Estimate) -> str:
    return "1 episode" if found.episodes == 1 else f"means of {found.episodes} episodes"
