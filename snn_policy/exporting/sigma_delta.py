"""One decision of base-two sigma-delta networks with few nodes: the digits of a whole stage are looked up.

Greedy digits ±2ⁱ of u = v/q fire at |rest| ≥ ¾·2ⁱ, and each leaves a rest that differs from u by a whole number. So
what a neuron sends in all, Σs/q, changes only where 4u is a whole number: it is a function of ⌊4u⌋ + ⌈4u⌉, even at a
whole 4u, odd between two. The tables are filled by `sigma_delta_spike` itself. Beyond `REACH` quanta, in any row, the
definition is computed instead. How many spikes those were follows from what they sent: greedy digits have no two
neighbours, so they are its non-adjacent form. Inside, memories count in quarters of a quantum, which the weights take
up; they are whole numbers there, so that silent neurons keep theirs to the bit. A residual that is carried counts in
quarters, too, but is no whole number of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.ann.layers import Layer, Linear
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.costs import EXACT, totals
from snn_policy.exporting.tracing import Traced
from snn_policy.protocol import Array, FloatArray
from snn_policy.spiking.neurons import LEAST_RESIDUAL, SigmaDeltaNeurons, sigma_delta_spike

REACH = 8192
HALF = 8 * REACH
"""Table entries on either side of zero: two for every quarter of a quantum."""
OUTSIDE = 2 * REACH - 1
"""What a neuron beyond the table is said to send, in quanta: more than any within it."""
BEYOND = 2.0**26
"""The number of spikes of that."""
SCALED = ("relu", "leaky_relu")
"""Activations with f(a·z) = a·f(z) for a > 0."""


@dataclass(frozen=True, eq=False)
class Quarters:
    """Hold one stage's units: `size` q/4, `scale` 4/q (0 for a dead neuron), `kept` γ·4/q, `carried` α·4/q (None where
    no residual is), each (neurons,) float64."""

    size: Array
    scale: Array
    kept: Array
    carried: Array


def quarters(neurons: SigmaDeltaNeurons) -> list[Quarters]:
    units = []
    for stage, (quantum, predictor) in enumerate(zip(neurons.quanta, neurons.predictor, strict=True)):
        q = quantum.astype(np.float64)
        scale = np.where(q > 0, 4 / np.where(q > 0, q, 1), 0)
        carried = scale * neurons.alpha[stage] if neurons.carries else None
        units.append(Quarters(q / 4, scale, scale * predictor, carried))
    return units


def fits_tables(layers: Sequence[Layer], neurons: SigmaDeltaNeurons) -> bool:
    """Return whether `decide_by_tables` can stand for the definition."""
    most = sum(digits * int(layer.fan_out.sum()) for digits, layer in zip(neurons.digits, layers, strict=True))
    limits = np.finfo(np.float32)
    units = [values[values > 0] for unit in quarters(neurons) for values in (unit.size, unit.scale)]
    usual = all(((values > limits.tiny * 1e6) & (values < limits.max / 1e6)).all() for values in units)
    return neurons.base == 2 and most < EXACT and usual


def decide_by_tables(
    x: Traced, memory: Mapping[str, Traced], layers: Sequence[Layer], neurons: SigmaDeltaNeurons, counts: bool = True
) -> tuple[Traced, list[Traced]]:
    """Return whether all neurons were within reach, a scalar; and y, if asked the counts (`costs.totals`) as int64, and
    the new memories."""
    units, widths = quarters(neurons), [layer.inputs for layer in layers]
    kept = xp.round(memory["memory"] * _float32([unit.kept for unit in units]))
    carried = []
    if neurons.carries:
        carried = xp.split(memory["residual"] * _float32([unit.carried for unit in units]), widths)
    h = (x - neurons.offset) * _float32([units[0].scale])
    sent_values, new, potentials = [], [], []
    for stage, (layer, before) in enumerate(zip(layers, xp.split(kept, widths), strict=True)):
        quarter = h - before + carried[stage] if carried else h - before
        index = xp.astype(xp.clip(xp.floor(quarter) + xp.ceil(quarter), -HALF, HALF - 1), np.int64)
        sent_values.append(xp.take(sent_table(neurons, neurons.digits[stage]), index))
        new.append(before + sent_values[-1])
        potentials.append(quarter)
        offset = neurons.offset if stage == 0 else None
        h = _received(new[-1], layer, units[stage], units[stage + 1] if layer.activation else None, offset)
    sent = xp.concat(sent_values, axis=1)
    if counts:
        spikes = xp.take(spike_table(), xp.astype(sent, np.int64))
        spent = totals(spikes, layers, xp.clip(spikes, 0, 1))
        within, costs = xp.largest(spent) < BEYOND / 2, [xp.astype(spent, np.int64)]
    else:
        within, costs = xp.largest(abs(sent)) < 4 * OUTSIDE, []
    sizes = _float32([unit.size for unit in units])
    memories = [xp.concat(new, axis=1)] + ([_left_over(xp.concat(potentials, axis=1))] if carried else [])
    return within, [h, *costs, *(memory * sizes for memory in memories)]


def _left_over(quarter: Traced) -> Traced:
    """Return the residual: the potential where it is below the first digit's ¾ quantum, but not where it is tiny."""
    return xp.beyond(quarter, 4 * LEAST_RESIDUAL) - xp.beyond(quarter, 3.0)


def _float32(parts: Sequence[Array]) -> FloatArray:
    return np.concatenate(parts).astype(np.float32)


def sent_table(neurons: SigmaDeltaNeurons, digits: int) -> FloatArray:
    """Return Σs in quarters of a quantum at every index ⌊4u⌋ + ⌈4u⌉; negative indices count from the end."""
    index = np.concatenate([np.arange(HALF), np.arange(-HALF, 0)])
    v, sent = (index / 8).astype(np.float32), np.zeros(2 * HALF, np.float32)
    for _ in range(digits):
        s = sigma_delta_spike(v, np.ones_like(v), neurons.powers)
        v, sent = v - s, sent + s
    sent[HALF - 1], sent[HALF] = OUTSIDE, -OUTSIDE
    return 4 * sent


def spike_table() -> FloatArray:
    """Return spikes that send n quanta, at 4n (what is sent counts in quarters), from 0 on, from the end −1 and on: the
    non-adjacent form of n has 3n ⊕ n."""
    n = np.arange(2 * REACH, dtype=np.uint32)
    spikes = np.bitwise_count(n ^ (3 * n)).astype(np.float32)
    spikes[OUTSIDE] = BEYOND
    return np.kron(np.concatenate([spikes, spikes[:1], spikes[:0:-1]]), np.eye(1, 4, dtype=np.float32)[0])


def _received(memory: Traced, layer: Layer, unit: Quarters, following: Quarters | None, offset: Array) -> Traced:
    """Return the next stage's h in its quarters, or the last layer's y, of the stage before's memory in its own."""
    f = layer.activation
    if isinstance(layer, Linear):
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        bias = bias if offset is None else bias + weight @ offset
        weight = weight * unit.size
        if f is not None and f.name in SCALED and following is not None:
            weight, bias = weight * following.scale[:, None], bias * following.scale
            return f(xp.matmul(memory, weight.T.astype(np.float32)) + bias.astype(np.float32))
        z = xp.matmul(memory, weight.T.astype(np.float32)) + bias.astype(np.float32)
    else:
        reconstruction = memory * unit.size.astype(np.float32)
        z = layer(reconstruction if offset is None else reconstruction + offset)
    return z if f is None or following is None else f(z) * following.scale.astype(np.float32)
