"""The neuron models: pure step functions, array-API only, and the parameters they are run with.

Notation (docs/methods.md §1): θ threshold · v membrane potential · o output at a timestep, carrying its magnitude ·
M net output so far in the decision · T timesteps of a decision. Arrays are (rows, neurons) float32.

Sources: IF with soft reset as in CRPI (Xu et al., arXiv 2601.21778); SNM, signed neuron with memory (Wang et
al. 2022); MT, multi-threshold, and differential coding (Huang et al., "Differential Coding for Training-Free
ANN-to-SNN Conversion"); the sigma-delta neuron is this project's own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from snn_policy.checks import number, require, whole
from snn_policy.protocol import Array, FloatArray
from snn_policy.spiking.crpi import ResidualRule
from snn_policy.spiking.firing import fire_if, fire_mt, fire_snm
from snn_policy.spiking.settings import IF, MOST_DIGITS, MT, SNM, Coding
from snn_policy.spiking.spike_calibration import SpikeCalibration

MembraneModel = Literal["if", "snm", "mt"]
LARGEST_SPIKE = 2.0**40
"""The largest spike of a sigma-delta neuron, in quanta: far beyond any value that float32 can resolve."""


LEAST_RESIDUAL = 2.0**-20
"""A smaller residual, in quanta, is none: one that only shrinks would end in subnormal numbers, which take processors a
hundred times as long."""


class Membrane(NamedTuple):
    """Hold, within one decision under rate coding, membrane potential v and net output M, both (rows, neurons)."""

    v: Array
    net: Array


class DifferentialMembrane(NamedTuple):
    """Hold, within a decision under differential coding, v, M, the means of input and output so far, m_in and m_out."""

    v: Array
    net: Array
    inflow: Array
    outflow: Array


@dataclass(frozen=True, eq=False)
class MembraneNeurons:
    """Describe the IF, SNM or MT neurons of all hidden layers: settled settings, and what calibration found.

    Attributes:
        settings: with T, one α per hidden layer and c (`MembraneSettings.settled`).
        thresholds: θ per hidden layer, (neurons,); 0 for a dead neuron, which never spikes.
    """

    settings: IF | SNM | MT
    thresholds: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        alpha, layers = self.settings.alpha, len(self.thresholds)
        require(isinstance(alpha, tuple) and len(alpha) == layers, f"alpha {alpha!r}: expected one per hidden layer")
        require(None not in (self.settings.timesteps, self.settings.alpha_clip), "settings: not settled")

    @property
    def model(self) -> MembraneModel:
        """Return "if", "snm" or "mt"."""
        return self.settings.neuron  # pyright: ignore[reportReturnType]

    @property
    def coding(self) -> Coding:
        """Return "rate" or "differential"."""
        return self.settings.coding

    @property
    def timesteps(self) -> int:
        """Return T."""
        return self.settings.timesteps  # pyright: ignore[reportReturnType]

    @property
    def alpha(self) -> tuple[float, ...]:
        """Return CRPI's share of the residual carried on, per hidden layer."""
        return self.settings.alpha  # pyright: ignore[reportReturnType]

    @property
    def alpha_clip(self) -> float:
        """Return c, the bound of the carried charge in thresholds."""
        return self.settings.clip

    @property
    def residual(self) -> ResidualRule:
        """Return "bounded" or "plain" (see `snn_policy.spiking.crpi`)."""
        return self.settings.residual

    @property
    def levels(self) -> int:
        """Return n of MT; 0 of others."""
        return self.settings.levels if isinstance(self.settings, MT) else 0

    @property
    def calibration(self) -> SpikeCalibration | None:
        """Return the spike calibration before each layer's T steps, of IF under rate coding only."""
        return self.settings.calibration if isinstance(self.settings, IF) else None

    def base(self, threshold: Array) -> Array:
        """Return v[0] without correction: θ/2 for IF and SNM, 0 for MT."""
        return threshold * (0.0 if self.model == "mt" else 0.5)

    def fire(self, v: Array, net: Array, threshold: Array) -> Array:
        """Return the output o of neurons at potential v with net output M so far."""
        match self.model:
            case "if":
                return fire_if(v, threshold)
            case "snm":
                return fire_snm(v, net, threshold)
            case "mt":
                return fire_mt(v, net, threshold, self.levels)


@dataclass(frozen=True, eq=False)
class SigmaDeltaNeurons:
    """Describe the sigma-delta neurons of all stages: the observation, then every hidden layer.

    Attributes:
        quanta: q per stage, (neurons,); 0 for a dead neuron, which never spikes.
        predictor: γ per stage, (neurons,) of 0 (sends its value afresh) and 1 (sends its change).
        offset: c of stage 0, (inputs,): the mean observation; c is 0 for the other stages.
        digits: D per stage: at most so many spikes per neuron and decision.
        base: β; spikes are ±q·βⁱ.
        alpha: α per stage, 0 to 1: the share of the residual that is carried to the next decision; empty where no stage
            carries any: such networks have no memory of it.
    """

    quanta: tuple[FloatArray, ...]
    predictor: tuple[FloatArray, ...]
    offset: FloatArray
    digits: tuple[int, ...]
    base: float = 2.0
    alpha: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        shares = all(0 <= number("alpha", share) <= 1 for share in self.alpha)
        fits = shares and len(self.alpha) in (0, len(self.quanta))
        require(fits, f"alpha {self.alpha!r}: expected shares of 0 to 1, one per stage")
        if not any(self.alpha):
            object.__setattr__(self, "alpha", ())
        fits = all(whole(count, 1, MOST_DIGITS) for count in self.digits)
        require(fits, f"digits {self.digits!r}: expected 1 to {MOST_DIGITS} per stage")
        require(1.1 <= self.base <= 16, f"base {self.base!r}: expected 1.1 to 16")

    @property
    def timesteps(self) -> int:
        """Return Σ D: one timestep is one digit of the stage whose turn it is."""
        return sum(self.digits)

    @property
    def carries(self) -> bool:
        """Return whether any stage carries residuals from one decision to the next."""
        return bool(self.alpha)

    @cached_property
    def powers(self) -> FloatArray:
        """Return β⁰, β¹, … up to `LARGEST_SPIKE`."""
        count = int(np.log(LARGEST_SPIKE) / np.log(self.base)) + 1
        return (np.float64(self.base) ** np.arange(count)).astype(np.float32)


def step_rate(x: Array, state: Membrane, threshold: Array, neurons: MembraneNeurons) -> tuple[Array, Membrane]:
    """Take one timestep under rate coding: v ← v + x; o = fire(v, M); v ← v − o; M ← M + o."""
    v = state.v + x
    o = neurons.fire(v, state.net, threshold)
    return o, Membrane(v - o, state.net + o)


def step_differential(
    d: Array, t: int, state: DifferentialMembrane, threshold: Array, neurons: MembraneNeurons
) -> tuple[Array, DifferentialMembrane]:
    """Take timestep t = 1…T under differential coding; d is the weighted input less the bias (m_in starts at it).

    v ← v + d + m_in − m_out; M ← M + m_out; o = fire(v, M); v ← v − o; M ← M + o;
    m_in ← m_in + d/t; m_out ← m_out + o/t.
    """
    v = state.v + d + state.inflow - state.outflow
    net = state.net + state.outflow
    o = neurons.fire(v, net, threshold)
    return o, DifferentialMembrane(v - o, net + o, state.inflow + d / t, state.outflow + o / t)


def sigma_delta_spike(v: Array, quantum: Array, powers: Array) -> Array:
    """Return one digit: s = sign(v)·q·βⁱ, i = ⌊log_β(|v| / (k·q))⌋, |v| ≥ k·q with k = (1 + 1/β)/2; else 0."""
    xp = array_namespace(v)
    alive = quantum > 0
    reach = xp.where(alive, quantum * ((1 + 1 / powers[1]) / 2), 1.0)
    ratio = xp.minimum(abs(v), reach * powers[-1]) / reach
    fires = (ratio >= 1) & alive
    power = _largest_power(xp.where(fires, ratio, 1.0), powers, xp)
    return xp.where(fires, xp.sign(v) * quantum * power, 0.0)


def sigma_delta_residual(v: Array, sent: Array, quantum: Array) -> Array:
    """Return r, what a decision leaves: v within ±q of neurons that sent nothing, 0 of others and where it is tiny.

    Args:
        v: what is left after the last digit, (rows, neurons).
        sent: whether the neuron sent a spike in this decision, (rows, neurons) bool.
    """
    xp = array_namespace(v)
    none = sent | (abs(v) < quantum * LEAST_RESIDUAL)
    return xp.where(none, xp.zeros_like(v), xp.minimum(xp.maximum(v, -quantum), quantum))


def _largest_power(ratio: Array, powers: Array, xp: Any) -> Array:
    """Return the largest βⁱ ≤ ratio, exactly: a logarithm that rounds is put right by comparison.

    Minimum and maximum, because `clip` of array-api-compat takes half of a decision's time on NumPy.
    """
    last = powers.shape[0] - 1
    guess = xp.astype(xp.log(ratio) / xp.log(powers[1]), xp.int64)
    guess = xp.reshape(xp.minimum(xp.maximum(guess, 0), last), (-1,))
    ratio_flat = xp.reshape(ratio, (-1,))
    guess = xp.where(xp.take(powers, guess) > ratio_flat, guess - 1, guess)
    above = xp.minimum(xp.maximum(guess + 1, 0), last)
    guess = xp.where(xp.take(powers, above) <= ratio_flat, above, guess)
    return xp.reshape(xp.take(powers, guess), ratio.shape)
