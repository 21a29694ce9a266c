"""SpikingNetwork and decide(): all timesteps of one decision, pure: (observation, state) → (action, state).

The layers run one after another, each through all of its timesteps: a feed-forward network without synaptic
delay gives the same spikes in either order, and a layer's T inputs are then one matrix product. Equations:
METHODS §1 and §2. Written against the array-API: the arrays' own namespace (NumPy, torch) does the work.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from snn_policy.actor import Actor
from snn_policy.crpi import residual_potential, start_potential
from snn_policy.layers import Linear, affine
from snn_policy.neurons import (
    DifferentialMembrane,
    Membrane,
    MembraneNeurons,
    SigmaDeltaNeurons,
    sigma_delta_spike,
    step_differential,
    step_rate,
)
from snn_policy.protocol import Decision


class MembraneState(NamedTuple):
    """What IF, SNM and MT networks carry between decisions, (rows, neurons of all hidden layers) float32.

    residual: CRPI's r, layer after layer.
    """

    residual: Any


class SigmaDeltaState(NamedTuple):
    """What sigma-delta networks carry between decisions, float32.

    memory: (rows, neurons of all stages) m: what each neuron has told its receivers.
    accumulator: (rows, outputs of all layers) W·(γ·m): what the receivers have heard and keep.
    age: (rows, 1) decisions since the accumulators were last derived from the memory.
    """

    memory: Any
    accumulator: Any
    age: Any


State = MembraneState | SigmaDeltaState


@dataclass(frozen=True, eq=False)
class SpikingNetwork:
    """An actor's weights with spiking neurons in place of its activations: data, and pure functions of it.

    Attributes:
        actor: the weights, the normaliser and the head, shared with the ANN.
        neurons: the neurons' model and parameters.
    """

    actor: Actor
    neurons: MembraneNeurons | SigmaDeltaNeurons

    @property
    def spiking_widths(self) -> tuple[int, ...]:
        """Neurons per layer that spikes: hidden layers; sigma-delta: the observation's stage first."""
        return self.actor.widths[0 if isinstance(self.neurons, SigmaDeltaNeurons) else 1 :]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the columns of `Decision.spikes`."""
        stages = ("observation", *(f"hidden{i}" for i in range(1, len(self.actor.layers))))
        return stages[0 if isinstance(self.neurons, SigmaDeltaNeurons) else 1 :]

    def initial_state(self, n: int) -> State:
        """The state of n rows after a reset: zeros."""
        memory = np.zeros((n, sum(self.spiking_widths)), np.float32)
        if isinstance(self.neurons, SigmaDeltaNeurons):
            accumulator = np.zeros((n, sum(self.actor.fan_out)), np.float32)
            return SigmaDeltaState(memory, accumulator, np.zeros((n, 1), np.float32))
        return MembraneState(memory)

    def decide(self, obs: Any, state: Any) -> tuple[Any, State, Decision]:
        """One decision of every row.

        Args:
            obs: (rows, *observation_shape) float32, finite.
            state: as `initial_state(rows)` or an earlier call gave it; not changed.

        Returns:
            The actions (rows, *action_shape), the new state and what the decision cost, all in obs's namespace.
        """
        x = self.actor.inputs(obs)
        if isinstance(self.neurons, SigmaDeltaNeurons):
            y, new_state, spikes = _decide_sigma_delta(x, state, self.actor.layers, self.neurons)
            fan_out, macs = self.actor.fan_out, 0
        else:
            y, new_state, spikes = _decide_membrane(x, state, self.actor.layers, self.neurons)
            fan_out, macs = self.actor.fan_out[1:], self.actor.layers[0].inputs * self.actor.layers[0].outputs
        return self.actor.head(y), new_state, _cost(spikes, fan_out, macs, x)


def _cost(spikes: list[Any], fan_out: tuple[int, ...], macs: int, like: Any) -> Decision:
    xp = array_namespace(like)
    rows = xp.zeros((like.shape[0],), dtype=xp.int64, device=device(like))
    operations = rows
    for count, synapses in zip(spikes, fan_out, strict=True):
        operations = operations + count * synapses
    counts = xp.stack(spikes, axis=1) if spikes else xp.zeros((like.shape[0], 0), dtype=xp.int64, device=device(like))
    return Decision(counts, operations, rows + macs, rows)


def _count(o: Any, xp: Any, axis: Any) -> Any:
    return xp.sum(xp.astype(o != 0, xp.int64), axis=axis)


def _decide_membrane(
    x: Any, state: MembraneState, layers: tuple[Linear, ...], neurons: MembraneNeurons
) -> tuple[Any, MembraneState, list[Any]]:
    xp = array_namespace(x)
    if len(layers) == 1:
        return affine(x, layers[0].weight, layers[0].bias), state, []
    run = _run_rate if neurons.coding == "rate" else _run_differential
    outputs, decoded, residuals, spikes, start = None, None, [], [], 0
    for layer, threshold, alpha in zip(layers, neurons.thresholds, neurons.alpha, strict=False):
        carried = state.residual[:, start : start + layer.outputs]
        start += layer.outputs
        v_start = start_potential(neurons.base(threshold), carried, alpha, threshold * neurons.alpha_clip)
        weighted = affine(x, layer.weight) if outputs is None else xp.matmul(outputs, layer.weight.T)
        outputs, v_end, net, decoded = run(weighted, v_start, layer.bias, threshold, neurons)
        residuals.append(residual_potential(v_end, v_start, net, neurons.residual))
        spikes.append(_count(outputs, xp, (1, 2)))
    y = affine(decoded, layers[-1].weight, layers[-1].bias)
    return y, MembraneState(xp.concat(residuals, axis=1)), spikes


def _run_rate(weighted: Any, v: Any, bias: Any, threshold: Any, neurons: MembraneNeurons) -> tuple[Any, ...]:
    """All timesteps of one layer; `weighted` is W·o[t], (rows, T, n), or the constant W·x, (rows, n).

    Returns:
        o (rows, T, n); v[T], M and the decoded activation M/T, each (rows, n).
    """
    xp = array_namespace(v)
    state, outputs = Membrane(v, v * 0), []
    constant = weighted + bias if weighted.ndim == 2 else None
    for t in range(neurons.timesteps):
        o, state = step_rate(weighted[:, t] + bias if constant is None else constant, state, threshold, neurons)
        outputs.append(o)
    return xp.stack(outputs, axis=1), state.v, state.net, state.net / neurons.timesteps


def _run_differential(weighted: Any, v: Any, bias: Any, threshold: Any, neurons: MembraneNeurons) -> tuple[Any, ...]:
    """As `_run_rate`; a constant input is one change at t = 1 and none after it, the decoded activation m_out."""
    xp = array_namespace(v)
    state, outputs = DifferentialMembrane(v, v * 0, v * 0 + bias, v * 0), []
    for t in range(neurons.timesteps):
        d = weighted[:, t] if weighted.ndim == 3 else (weighted if t == 0 else weighted * 0)
        o, state = step_differential(d, t + 1, state, threshold, neurons)
        outputs.append(o)
    return xp.stack(outputs, axis=1), state.v, state.net, state.outflow


def _decide_sigma_delta(
    x: Any, state: SigmaDeltaState, layers: tuple[Linear, ...], neurons: SigmaDeltaNeurons
) -> tuple[Any, SigmaDeltaState, list[Any]]:
    xp = array_namespace(x)
    h, memories, accumulators, spikes, start = x, [], [], [], 0
    for stage, (layer, quantum, predictor) in enumerate(zip(layers, neurons.quanta, neurons.predictor, strict=True)):
        kept = predictor * state.memory[:, start : start + layer.inputs]
        start += layer.inputs
        offset = neurons.offset if stage == 0 else 0.0
        v, told, emitted = h - offset - kept, kept * 0, 0
        for _ in range(neurons.digits[stage]):
            s = sigma_delta_spike(v, quantum, neurons.powers)
            v, told, emitted = v - s, told + s, emitted + _count(s, xp, 1)
        memory = kept + told
        accumulator = affine(predictor * memory, layer.weight)
        z = accumulator + affine((1 - predictor) * memory + offset, layer.weight, layer.bias)
        memories.append(memory)
        accumulators.append(accumulator)
        spikes.append(emitted)
        h = z if layer.activation is None else layer.activation(z)
    memory, accumulator = xp.concat(memories, axis=1), xp.concat(accumulators, axis=1)
    return h, SigmaDeltaState(memory, accumulator, state.age * 0), spikes
