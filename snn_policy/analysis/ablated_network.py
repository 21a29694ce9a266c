"""IF networks with one source of their error switched off and everything else kept: pure decisions, and a policy.

One hidden layer, T timesteps, threshold θ, drive x[t] = W·o_prev[t] + b, v[0] = θ/2 + clip(α·r) (docs/methods.md §1,
§2). What the next layer receives is o[1] … o[T], and N = Σ o[t] stands for T times a ReLU. X = Σ x[t].

    none        v ← v + x[t]; o = θ·1[v > θ]; v ← v − o
    clipping    o = θ·max(0, ⌈v/θ⌉ − 1): as many spikes in a timestep as v is worth, so that a rate has no upper limit
    quantisation  N = clip(X + v[0] − θ/2, 0, T·θ), o[t] = N/T: the exact rate, clipped
    unevenness  N = θ·clip(⌊(X + v[0])/θ⌋, 0, T), o[t] = N/T: the QCFS closed form; spikes arrive evenly
    residual    v[0] = θ/2: every decision begins from a reset

What is left over is r = max(X − N, −N) in all of them (X − N where the network's rule is "plain"). Quantisation is
what makes spikes uneven and leaves residuals: without it only the clipping is left.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.checks import require
from snn_policy.errors import UnsupportedLayerError
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import Array, Decision
from snn_policy.session import ReferenceSession
from snn_policy.spiking.crpi import residual_potential, start_potential
from snn_policy.spiking.membrane import run_layer
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.state import MembraneState
from snn_policy.stateful import StatefulPolicy

Source = Literal["none", "clipping", "quantisation", "unevenness", "residual"]
SOURCES: tuple[Source, ...] = get_args(Source)


class AblatedPolicy(SpikingPolicy):
    """Act as the IF policy would without one source of error; for measurements, not to be saved or exported.

    Attributes:
        without: the source that is switched off.

    Raises:
        UnsupportedLayerError: other neurons than IF under rate coding, or spike calibration.
    """

    def __init__(self, network: SpikingNetwork, without: Source = "none") -> None:
        check_ablatable(network)
        require(without in SOURCES, f"without {without!r}: expected one of {', '.join(SOURCES)}")
        self.network, self.engine, self.without = network, "numpy", without
        self.conversion, self.card = {}, {}
        StatefulPolicy.__init__(self, AblatedEngine(network, without))

    def _made_of(self) -> tuple[Any, ...]:
        return self.network, self.without

    def _remake(self, made_of: tuple[Any, ...]) -> None:
        self.__init__(*made_of)


class AblatedEngine:
    """Decide as `AblatedPolicy` does; see `snn_policy.session.Engine`."""

    def __init__(self, network: SpikingNetwork, without: Source) -> None:
        self._network = network
        self._without: Source = without

    def decide(self, obs: Array, state: Any) -> tuple[npt.NDArray[Any], MembraneState, Decision]:
        """Decide for every row; costs are not counted."""
        actor = self._network.actor
        y, after = decide_ablated(actor.inputs(obs), state, self._network, self._without)
        none = np.zeros(len(obs), np.int64)
        spikes = np.zeros((len(obs), len(self._network.spiking_widths)), np.int64)
        return actor.head(y), after, Decision(spikes, none, none, none, none, none)

    def session(self, rows: int) -> ReferenceSession:
        return ReferenceSession(self, self._network, rows)


def check_ablatable(network: SpikingNetwork) -> None:
    """Raise `UnsupportedLayerError` of other networks than those of IF neurons, rate coding, no spike calibration."""
    neurons = network.neurons
    if isinstance(neurons, MembraneNeurons) and neurons.model == "if" and neurons.coding == "rate":
        if neurons.calibration is None:
            return
        kind, remedy = "spike calibration", "Convert without calibration."
    else:
        kind = f"{neurons.coding} {neurons.model}" if isinstance(neurons, MembraneNeurons) else "sigma-delta"
        remedy = 'Convert with neuron="if".'
    reason = "the sources of error are defined for IF neurons under rate coding"
    raise UnsupportedLayerError(network.actor.name, kind, reason, remedy)


def decide_ablated(
    x: Array, state: MembraneState, network: SpikingNetwork, without: Source
) -> tuple[Array, MembraneState]:
    """Return, from the normalised x (rows, inputs), the last layer's y and the new state."""
    neurons, layers = network.neurons, network.actor.layers
    assert isinstance(neurons, MembraneNeurons)
    outputs, decoded, start, left = x[:, None, :], x, 0, []
    for layer, threshold, alpha in zip(layers, neurons.thresholds, neurons.alpha, strict=False):
        carried = state.residual[:, start : start + layer.outputs]
        start += layer.outputs
        share = 0.0 if without == "residual" else alpha
        v_start = start_potential(neurons.base(threshold), carried, share, threshold * neurons.alpha_clip)
        outputs, charge, net = _layer(layer.product(outputs), layer.unit_bias, v_start, threshold, neurons, without)
        left.append(residual_potential(charge, charge * 0, net, neurons.residual))
        decoded = net / neurons.timesteps
    return layers[-1](decoded), MembraneState(np.concatenate(left, axis=1) if left else state.residual)


def _layer(
    weighted: Array, bias: Array, v_start: Array, threshold: Array, neurons: MembraneNeurons, without: Source
) -> tuple[Array, Array, Array]:
    """Return o (rows, T or 1, n), what is left of the charge X − N, and N, (rows, n) each.

    Args:
        weighted: W·o_prev, (rows, T or 1, n).
    """
    steps = neurons.timesteps
    if without in ("none", "residual"):
        run = run_layer(weighted, v_start, bias, threshold, neurons, None)
        return run.outputs, run.v_end - run.v_start, run.net
    drive = weighted + bias
    if without == "clipping":
        outputs, v_end = _unlimited(drive, v_start, threshold, steps)
        return outputs, v_end - v_start, outputs.sum(axis=1)
    total = drive.sum(axis=1) * np.float32(steps / drive.shape[1])
    highest = threshold * np.float32(steps)
    if without == "quantisation":
        net = np.minimum(np.maximum(total + (v_start - neurons.base(threshold)), 0), highest)
    else:
        alive = threshold > 0
        worth = np.floor((total + v_start) / np.where(alive, threshold, 1)) * threshold
        net = np.minimum(np.maximum(worth, 0), highest)
    return (net / np.float32(steps))[:, None, :], total - net, net


def _unlimited(drive: Array, v_start: Array, threshold: Array, steps: int) -> tuple[Array, Array]:
    """Return o (rows, T, n) and v[T] of neurons that may spike several times in a timestep, until v ≤ θ."""
    xp = array_namespace(v_start)
    alive = threshold > 0
    v, outputs = v_start, []
    for t in range(steps):
        v = v + drive[:, t % drive.shape[1]]
        spikes = xp.maximum(xp.ceil(v / xp.where(alive, threshold, xp.ones_like(threshold))) - 1, xp.zeros_like(v))
        outputs.append(spikes * threshold)
        v = v - outputs[-1]
    return xp.stack(outputs, axis=1), v
