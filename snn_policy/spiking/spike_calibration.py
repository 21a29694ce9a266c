"""Offset-spike calibration of IF neurons: correct a layer's spike counts by moving its initial potentials.

Sources: Song et al., "Calibrating the Converted Spiking Reinforcement Learning", Algorithms 1 and 2; the method is
Hao et al. 2023. Equations: methods.md §5 and §6. Layer by layer, each on its own input train from the layer before it,
which is calibrated already: simulate ρ steps from v[0] and note n spikes, the final v, m_f = the smallest potential
left after a spike, m_s = the largest potential at a silent step. Then

    one spike too many (v < 0 and n > 0):  v[0] ← v[0] − max(θ, m_f + ε)
    one too few (v ≥ θ and n < ρ):         v[0] ← v[0] + max(θ, θ + ε − m_s)

and run the T steps for real. Simulated spikes stay inside the layer: they cost no synaptic operation.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from array_api_compat import array_namespace

from snn_policy.checks import require, whole
from snn_policy.protocol import Array
from snn_policy.spiking.firing import fire_if

Rule = Literal["first-pass", "literal"]
MOST_ITERATIONS, MOST_SIMULATION_STEPS = 64, 4096
FAR = 1e30


@dataclass(frozen=True)
class SpikeCalibration:
    """Set the course of spike calibration.

    Attributes:
        iterations: I, how often the initial potential is corrected before the T steps are run.
        simulation_steps: ρ, steps of each simulated pass; None for T. Beyond T the input train repeats.
        adaptive: (I_min, I_max): each environment row chooses its own I, decision by decision (Algorithm 2): one more
            after a decision with more error spikes than `error_tolerance`, up to I_max, else I_min again. The error
            spikes are Σ |shadow's count − count|, the shadow being the quantised ANN. Replaces `iterations`.
        epsilon: ε, in thresholds.
        rule: how iterations beyond the first judge. "first-pass": the first pass says how many spikes are wrong:
            iteration k corrects where v < −(k−1)·θ and n > k−1, or v ≥ k·θ, as in the published code. "literal": every
            pass is judged by itself, as Algorithm 1 is printed.
        error_tolerance: see `adaptive`.
    """

    iterations: int = 1
    simulation_steps: int | None = None
    adaptive: tuple[int, int] | None = None
    epsilon: float = 1e-3
    rule: Rule = "first-pass"
    error_tolerance: int = 0

    def __post_init__(self) -> None:
        steps, adaptive = self.simulation_steps, self.adaptive
        require(whole(self.iterations, 0, MOST_ITERATIONS), f"iterations {self.iterations!r}: 0 to {MOST_ITERATIONS}")
        require(
            steps is None or whole(steps, 1, MOST_SIMULATION_STEPS),
            f"simulation_steps {steps!r}: expected None or 1 to {MOST_SIMULATION_STEPS}",
        )
        if adaptive is not None:
            object.__setattr__(self, "adaptive", tuple(adaptive))
            two = len(tuple(adaptive)) == 2 and all(whole(count, 0, MOST_ITERATIONS) for count in adaptive)
            require(two and adaptive[0] <= adaptive[1], f"adaptive {adaptive!r}: expected (I_min, I_max), not falling")
        require(0 < self.epsilon < 1, f"epsilon {self.epsilon!r}: expected a share of the threshold in (0, 1)")
        require(self.rule in ("first-pass", "literal"), f"rule {self.rule!r}: expected 'first-pass' or 'literal'")
        require(whole(self.error_tolerance, 0, 2**31), f"error_tolerance {self.error_tolerance!r}: expected 0 or more")

    @property
    def least_iterations(self) -> int:
        """Return I of a row's first decision."""
        return self.iterations if self.adaptive is None else self.adaptive[0]

    @property
    def most_iterations(self) -> int:
        return self.iterations if self.adaptive is None else self.adaptive[1]


class Pass(NamedTuple):
    """Hold what a simulated pass notes per neuron: n, final v, m_f and m_s, each (rows, neurons)."""

    spikes: Array
    v: Array
    after_spike: Array
    silent: Array


def simulate(drive: Array, start: Array, threshold: Array, steps: int) -> Pass:
    """Run IF neurons for ρ steps on the drive (rows, T or 1, neurons), bias included, from v[0] = start."""
    xp = array_namespace(start)
    v, spikes = start, xp.zeros_like(start)
    after_spike, silent = xp.full_like(start, FAR), xp.full_like(start, -FAR)
    for t in range(steps):
        v = v + drive[:, t % drive.shape[1]]
        o = fire_if(v, threshold)
        fires, v = o != 0, v - o
        spikes = spikes + xp.astype(fires, v.dtype)
        after_spike = xp.where(fires, xp.minimum(after_spike, v), after_spike)
        silent = xp.where(fires, silent, xp.maximum(silent, v))
    return Pass(spikes, v, after_spike, silent)


def calibrated_start(
    drive: Array, start: Array, threshold: Array, timesteps: int, settings: SpikeCalibration, iterations: Array
) -> Array:
    """Return v[0] after calibration, (rows, neurons).

    Args:
        drive: (rows, T, neurons) the layer's input W·o[t] + b, or (rows, 1, neurons) where it is constant.
        start: (rows, neurons) v[0] before.
        iterations: (rows, 1) I of every row.
    """
    xp = array_namespace(start)
    steps = settings.simulation_steps or timesteps
    epsilon, first = threshold * settings.epsilon, None
    for k in range(1, settings.most_iterations + 1):
        now = simulate(drive, start, threshold, steps)
        first = now if first is None else first
        if settings.rule == "literal":
            too_many = (now.v < 0) & (now.spikes > 0)
            too_few = (now.v >= threshold) & (now.spikes < steps)
        else:
            too_many = (first.v < threshold * (1 - k)) & (first.spikes > k - 1)
            too_few = (first.v >= threshold * k) & (first.spikes < steps - (k - 1))
        wanted = (iterations >= k) & (threshold > 0)
        down = xp.maximum(threshold, now.after_spike + epsilon)
        up = xp.maximum(threshold, threshold + epsilon - now.silent)
        start = xp.where(too_many & wanted, start - down, xp.where(too_few & wanted, start + up, start))
    return start


def error_spikes(shadow: Array, net: Array, threshold: Array, timesteps: int) -> Array:
    """Return Σ |a·T/θ − n| over the neurons of a layer, (rows,); `shadow` a and `net` θ·n are (rows, neurons)."""
    xp = array_namespace(net)
    safe = xp.where(threshold > 0, threshold, xp.ones_like(threshold))
    return xp.sum(xp.where(threshold > 0, abs(shadow * timesteps - net) / safe, xp.zeros_like(net)), axis=1)
