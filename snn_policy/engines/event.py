"""The event-driven engine: packs a network into flat arrays and runs the compiled decisions on them.

Cost grows with the number of spikes, not with T × width². Compiled once per machine (numba's cache).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.activations import Activation
from snn_policy.actor import Actor, Linear
from snn_policy.engines import event_decisions as compiled
from snn_policy.engines import event_kernels as kernels
from snn_policy.network import MembraneState, SigmaDeltaState, SpikingNetwork, State
from snn_policy.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.protocol import Decision, FloatArray

REDERIVE_AFTER = 512
"""Decisions after which the sigma-delta accumulators of a row are derived anew, to bound their rounding."""

ACTIVATIONS = {"relu": kernels.RELU, "tanh": kernels.TANH, "elu": kernels.ELU, "silu": kernels.SILU,
               "leaky_relu": kernels.LEAKY_RELU}  # fmt: skip
HEADS = {"tanh": compiled.HEAD_TANH, "clip": compiled.HEAD_CLIP, "argmax": compiled.HEAD_ARGMAX}
MODELS = {"if": kernels.IF, "snm": kernels.SNM, "mt": kernels.MT}


class EventEngine:
    """Runs decisions of a network row by row, adding only the weights of neurons that spiked."""

    def __init__(self, network: SpikingNetwork, rederive_after: int = REDERIVE_AFTER) -> None:
        self.network, self.rederive_after = network, rederive_after
        actor = network.actor
        self._packed = _Packed(network)
        widest = max((*actor.widths, *actor.fan_out))
        self._work = np.zeros((compiled.WORK_ROWS, widest + 1), np.float32)
        self._indices = np.zeros(widest + 1, np.int64)
        self._trains = np.zeros((2, network.neurons.timesteps * widest), np.float32)
        sigma_delta = isinstance(network.neurons, SigmaDeltaNeurons)
        self._fan_out = np.array(actor.fan_out[0 if sigma_delta else 1 :], np.int64)
        self._macs = 0 if sigma_delta else actor.layers[0].inputs * actor.layers[0].outputs

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """As `SpikingNetwork.decide`."""
        actor, rows = self.network.actor, len(obs)
        flat = np.ascontiguousarray(obs.reshape(rows, -1))
        new_state = type(state)(*(np.array(each, np.float32, order="C") for each in state))
        actions = np.empty((rows, 1 if actor.discrete else actor.head.outputs), np.float32)
        spikes = np.zeros((rows, len(self._fan_out)), np.int64)
        if isinstance(new_state, SigmaDeltaState):
            self._run_sigma_delta(flat, new_state, actions, spikes)
        else:
            self._run_membrane(flat, new_state, actions, spikes)
        none = np.zeros(rows, np.int64)
        decision = Decision(spikes, spikes @ self._fan_out, none + self._macs, none)
        return (actions[:, 0].astype(np.int64) if actor.discrete else actions), new_state, decision

    def _run_sigma_delta(self, obs: FloatArray, state: SigmaDeltaState, actions: Any, spikes: Any) -> None:
        packed, neurons = self._packed, self.network.neurons
        assert isinstance(neurons, SigmaDeltaNeurons)
        compiled.decide_sigma_delta(
            obs, *state, self.rederive_after, packed.layout, packed.weights, packed.vectors, packed.parameters,
            packed.normaliser, packed.clip, neurons.powers, packed.head_kind, packed.head, packed.pre_clip,
            self._work, self._indices, actions, spikes,
        )  # fmt: skip

    def _run_membrane(self, obs: FloatArray, state: MembraneState, actions: Any, spikes: Any) -> None:
        packed, neurons = self._packed, self.network.neurons
        assert isinstance(neurons, MembraneNeurons)
        compiled.decide_membrane(
            obs, *state, MODELS[neurons.model], neurons.coding == "differential", neurons.timesteps, neurons.levels,
            np.float32(neurons.base(1.0)), np.array(neurons.alpha, np.float32), np.float32(neurons.alpha_clip),
            neurons.residual == "bounded", packed.layout, packed.weights, packed.vectors, packed.normaliser,
            packed.clip, packed.head_kind, packed.head, packed.pre_clip, self._work, self._indices, self._trains,
            actions, spikes,
        )  # fmt: skip


class _Packed:
    """A network as the flat arrays that `event_decisions` describes."""

    def __init__(self, network: SpikingNetwork) -> None:
        actor, neurons = network.actor, network.neurons
        per_layer = [_neuron_vectors(actor, neurons, index) for index in range(len(actor.layers))]
        self.layout = np.zeros((len(actor.layers), len(compiled.LAYOUT)), np.int64)
        weights, vectors = 0, 0
        memory, accumulator = 0, 0
        parts: list[FloatArray] = []
        for index, (layer, own) in enumerate(zip(actor.layers, per_layer, strict=True)):
            sigma_delta = isinstance(neurons, SigmaDeltaNeurons)
            digits = neurons.digits[index] if isinstance(neurons, SigmaDeltaNeurons) else 0
            self.layout[index] = (layer.inputs, layer.outputs, weights, vectors, vectors + layer.outputs, digits,
                                  _code(layer.activation), memory, accumulator)  # fmt: skip
            parts += [_bias(layer, neurons, index), own]
            weights += layer.weight.size
            vectors += layer.outputs + own.size
            memory += layer.inputs if sigma_delta else layer.outputs
            accumulator += layer.outputs
        self.weights = np.concatenate([layer.weight.T.ravel() for layer in actor.layers])
        self.vectors = np.concatenate(parts)
        self.parameters = np.array([layer.activation.parameter if layer.activation else 0 for layer in actor.layers],
                                   np.float32)  # fmt: skip
        self._pack_ends(actor)

    def _pack_ends(self, actor: Actor) -> None:
        inputs, head = actor.layers[0].inputs, actor.head
        if actor.normaliser is None:
            self.normaliser, clip = np.stack([np.zeros(inputs), np.ones(inputs)]).astype(np.float32), np.inf
        else:
            self.normaliser = np.stack([actor.normaliser.mean.ravel(), actor.normaliser.scale.ravel()])
            clip = actor.normaliser.clip
        self.clip, self.pre_clip = np.float32(clip), np.float32(head.pre_clip)
        self.head_kind = HEADS[head.kind]
        low, high = (np.zeros(head.outputs, np.float32),) * 2 if head.discrete else (head.low, head.high)
        self.head = np.stack([low, high, head.scale, head.offset])


def _code(activation: Activation | None) -> int:
    return kernels.LINEAR if activation is None else ACTIVATIONS[activation.name]


def _bias(layer: Linear, neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> FloatArray:
    """The bias; where a layer's input is sent less an offset, with the offset's share: b + W·c."""
    if index or isinstance(neurons, MembraneNeurons):
        return layer.bias
    return (layer.bias + layer.weight.astype(np.float64) @ neurons.offset).astype(np.float32)


def _neuron_vectors(actor: Actor, neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> FloatArray:
    """Sigma-delta: quantum, quantum·k (infinite for a dead neuron), γ, offset of stage `index`; else θ, if any."""
    if isinstance(neurons, MembraneNeurons):
        return neurons.thresholds[index] if index < len(neurons.thresholds) else np.zeros(0, np.float32)
    quantum = neurons.quanta[index]
    reach = (1 + 1 / neurons.powers[1]) / 2
    unit = np.where(quantum > 0, quantum * reach, np.float32(np.inf)).astype(np.float32)
    offset = neurons.offset if index == 0 else np.zeros_like(quantum)
    return np.concatenate([quantum, unit, neurons.predictor[index], offset])
