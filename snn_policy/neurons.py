"""The neuron models: pure step functions, array-API only, and the parameters they are run with.

Notation (docs/methods.md §1): θ threshold · v membrane potential · o output at a timestep, carrying its magnitude ·
M net output so far in the decision · T timesteps of a decision. Arrays are (rows, neurons) float32.

Sources: IF with soft reset as in CRPI (Xu et al., arXiv 2601.21778); SNM, signed neuron with memory (Wang et
al. 2022); MT, multi-threshold, and differential coding (Huang et al., "Differential Coding for Training-Free
ANN-to-SNN Conversion"); the sigma-delta neuron is this project's own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from array_api_compat import array_namespace

from snn_policy.numbers import require, whole
from snn_policy.protocol import FloatArray
from snn_policy.spike_calibration import SpikeCalibration

MembraneModel = Literal["if", "snm", "mt"]
Coding = Literal["rate", "differential"]
LARGEST_SPIKE = 2.0**40
"""The largest spike of a sigma-delta neuron, in quanta: far beyond any value that float32 can resolve."""
MOST_TIMESTEPS, MOST_LEVELS, MOST_DIGITS = 4096, 32, 64


class Membrane(NamedTuple):
    """Within one decision, rate coding: membrane potential v and net output M, both (rows, neurons)."""

    v: Any
    net: Any


class DifferentialMembrane(NamedTuple):
    """Within one decision, differential coding: v, M, the input's and the output's running means m_in, m_out."""

    v: Any
    net: Any
    inflow: Any
    outflow: Any


@dataclass(frozen=True, eq=False)
class MembraneNeurons:
    """IF, SNM or MT neurons of all hidden layers.

    Attributes:
        model: "if", "snm" or "mt".
        coding: "rate" or "differential".
        timesteps: T.
        thresholds: θ per hidden layer, (neurons,); 0 for a dead neuron, which never spikes.
        alpha: CRPI's share of the residual carried on, per hidden layer.
        alpha_clip: c, the bound of the carried charge in thresholds.
        residual: "bounded" or "plain" (see `snn_policy.crpi`).
        levels: n of MT.
        calibration: spike calibration before each layer's T steps, of IF under rate coding only.
    """

    model: MembraneModel
    coding: Coding
    timesteps: int
    thresholds: tuple[FloatArray, ...]
    alpha: tuple[float, ...]
    alpha_clip: float
    residual: Literal["bounded", "plain"] = "bounded"
    levels: int = 4
    calibration: SpikeCalibration | None = None

    def __post_init__(self) -> None:
        require(self.model in get_args(MembraneModel), f"neuron {self.model!r}: expected if, snm or mt")
        require(self.coding in get_args(Coding), f"coding {self.coding!r}: expected rate or differential")
        require(self.residual in ("bounded", "plain"), f"residual {self.residual!r}: expected bounded or plain")
        steps = self.timesteps
        require(whole(steps, 1, MOST_TIMESTEPS), f"timesteps {steps!r}: expected 1 to {MOST_TIMESTEPS}")
        require(whole(self.levels, 1, MOST_LEVELS), f"levels {self.levels!r}: expected 1 to {MOST_LEVELS}")
        require(all(0 <= a <= 1 for a in self.alpha), f"alpha {self.alpha!r}: expected 0 to 1")
        require(0 <= self.alpha_clip <= 1, f"alpha_clip {self.alpha_clip!r}: expected 0 to 1")
        calibrates = (self.model, self.coding) == ("if", "rate")
        require(self.calibration is None or calibrates, "calibration: of 'if' neurons with 'rate' coding only")

    def base(self, threshold: Any) -> Any:
        """v[0] without correction: θ/2 for IF and SNM, 0 for MT."""
        return threshold * (0.0 if self.model == "mt" else 0.5)

    def fire(self, v: Any, net: Any, threshold: Any) -> Any:
        """The output o of neurons at potential v with net output M so far."""
        match self.model:
            case "if":
                return fire_if(v, threshold)
            case "snm":
                return fire_snm(v, net, threshold)
            case "mt":
                return fire_mt(v, net, threshold, self.levels)


@dataclass(frozen=True, eq=False)
class SigmaDeltaNeurons:
    """Sigma-delta neurons of all stages: the observation, then every hidden layer.

    Attributes:
        quanta: q per stage, (neurons,); 0 for a dead neuron, which never spikes.
        predictor: γ per stage, (neurons,) of 0 (sends its value afresh) and 1 (sends its change).
        offset: c of stage 0, (inputs,): the mean observation; c is 0 for the other stages.
        digits: D per stage: at most so many spikes per neuron and decision.
        base: β; spikes are ±q·βⁱ.
    """

    quanta: tuple[FloatArray, ...]
    predictor: tuple[FloatArray, ...]
    offset: FloatArray
    digits: tuple[int, ...]
    base: float = 2.0

    def __post_init__(self) -> None:
        fits = all(whole(count, 1, MOST_DIGITS) for count in self.digits)
        require(fits, f"digits {self.digits!r}: expected 1 to {MOST_DIGITS} per stage")
        require(1.1 <= self.base <= 16, f"base {self.base!r}: expected 1.1 to 16")

    @property
    def timesteps(self) -> int:
        """Σ D: one timestep is one digit of the stage whose turn it is."""
        return sum(self.digits)

    @cached_property
    def powers(self) -> FloatArray:
        """β⁰, β¹, … up to `LARGEST_SPIKE`."""
        count = int(np.log(LARGEST_SPIKE) / np.log(self.base)) + 1
        return (np.float64(self.base) ** np.arange(count)).astype(np.float32)


def fire_if(v: Any, threshold: Any) -> Any:
    """Integrate and fire: o = θ·1[v > θ], strictly."""
    return array_namespace(v).where(v > threshold, threshold, threshold * 0)


def fire_snm(v: Any, net: Any, threshold: Any) -> Any:
    """Signed neuron with memory: o = +θ if v > θ; −θ if v < 0 and M > 0."""
    xp = array_namespace(v)
    return xp.where(v > threshold, threshold, xp.where((v < 0) & (net > 0), -threshold, threshold * 0))


def fire_mt(v: Any, net: Any, threshold: Any, levels: int) -> Any:
    """Multi-threshold neuron with levels λᵢ = θ·2⁻ⁱ.

    v > 0: o = +λᵢ for the smallest i with v ≥ ¾λᵢ. v < 0: qᵢ = 1[v ≤ −¾λᵢ]·1[M ≥ λᵢ] and
    o = −Σᵢ λᵢ·(qᵢ − qᵢ₋₁), q₋₁ = 0 (the gate makes q non-monotone, hence the difference form).
    """
    xp = array_namespace(v)
    positive, negative, previous = threshold * 0, threshold * 0, threshold * 0
    for i in range(levels):
        level = threshold * 2.0**-i
        passed = xp.astype((v <= level * -0.75) & (net >= level), v.dtype)
        negative = negative - level * (passed - previous)
        previous = passed
    for i in reversed(range(levels)):
        level = threshold * 2.0**-i
        positive = xp.where(v >= level * 0.75, level, positive)
    return xp.where(v < 0, negative, positive)


def step_rate(x: Any, state: Membrane, threshold: Any, neurons: MembraneNeurons) -> tuple[Any, Membrane]:
    """One timestep under rate coding: v ← v + x; o = fire(v, M); v ← v − o; M ← M + o."""
    v = state.v + x
    o = neurons.fire(v, state.net, threshold)
    return o, Membrane(v - o, state.net + o)


def step_differential(
    d: Any, t: int, state: DifferentialMembrane, threshold: Any, neurons: MembraneNeurons
) -> tuple[Any, DifferentialMembrane]:
    """Timestep t = 1…T under differential coding; d is the weighted input without bias (m_in starts at the bias).

    v ← v + d + m_in − m_out; M ← M + m_out; o = fire(v, M); v ← v − o; M ← M + o;
    m_in ← m_in + d/t; m_out ← m_out + o/t.
    """
    v = state.v + d + state.inflow - state.outflow
    net = state.net + state.outflow
    o = neurons.fire(v, net, threshold)
    return o, DifferentialMembrane(v - o, net + o, state.inflow + d / t, state.outflow + o / t)


def sigma_delta_spike(v: Any, quantum: Any, powers: Any) -> Any:
    """One digit: s = sign(v)·q·βⁱ, i = ⌊log_β(|v| / (k·q))⌋, where |v| ≥ k·q with k = (1 + 1/β)/2; else 0."""
    xp = array_namespace(v)
    alive = quantum > 0
    reach = xp.where(alive, quantum * ((1 + 1 / powers[1]) / 2), xp.ones_like(quantum))
    ratio = xp.minimum(abs(v), reach * powers[-1]) / reach
    fires = (ratio >= 1) & alive
    power = _largest_power(xp.where(fires, ratio, xp.ones_like(ratio)), powers, xp)
    return xp.where(fires, xp.sign(v) * quantum * power, xp.zeros_like(v))


def _largest_power(ratio: Any, powers: Any, xp: Any) -> Any:
    """The largest βⁱ ≤ ratio, exactly: a logarithm that rounds is put right by comparison."""
    last = powers.shape[0] - 1
    guess = xp.astype(xp.log(ratio) / xp.log(powers[1]), xp.int64)
    guess = xp.reshape(xp.clip(guess, 0, last), (-1,))
    ratio_flat = xp.reshape(ratio, (-1,))
    guess = xp.where(xp.take(powers, guess) > ratio_flat, guess - 1, guess)
    above = xp.clip(guess + 1, 0, last)
    guess = xp.where(xp.take(powers, above) <= ratio_flat, above, guess)
    return xp.reshape(xp.take(powers, guess), ratio.shape)
