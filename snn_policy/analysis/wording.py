"""How figures are written in sentences and tables: short numbers, intervals, and how many values a mean stands on."""

from math import isfinite

from snn_policy.analysis.estimates import Estimate


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


def within_brackets(found: Estimate) -> str:
    """Write the same within brackets, as ", n = 7"."""
    return f", n = {found.samples}" if found.few else ""


def counted(value: float, what: str) -> str:
    """Write a number of things, as "1 decision" or "2.50 decisions"."""
    return f"{number(value)} {what}{'' if value == 1 else 's'}"


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


def sure(found: Estimate) -> bool:
    """Return whether an interval shows on which side of 0 the mean is."""
    return has_interval(found) and (above(found, 0) or below(found, 0))


def apart(one: Estimate, other: Estimate) -> bool:
    """Return whether two intervals have nothing in common; of means without intervals nobody can tell otherwise."""
    if not (has_interval(one) and has_interval(other)):
        return True
    return one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]


def scaled(found: Estimate, factor: float) -> Estimate:
    """Return the estimate of a multiple."""
    low, high = sorted(factor * end for end in found.interval)
    return found._replace(mean=factor * found.mean, interval=(low, high))
