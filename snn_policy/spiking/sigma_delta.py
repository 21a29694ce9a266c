"""One decision of sigma-delta networks, pure and array-API: stage by stage. Equations: docs/methods.md §1.

This is the reference: it derives the accumulators from the memory in every decision, so they carry no rounding. Only
linear layers have any: what a convolution's receivers have accumulated is always derived.

Where stages carry residuals (α > 0), a decision begins with v = h − c − γ·m + α·r, r from the decision before.
"""

from array_api_compat import array_namespace

from snn_policy.ann.layers import Layer, Linear
from snn_policy.protocol import Array, Decision
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_residual, sigma_delta_spike
from snn_policy.spiking.state import CarryingState, SigmaDeltaState

SigmaDeltaStates = SigmaDeltaState | CarryingState


def accumulator_sizes(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Return the outputs of every layer that keeps accumulators."""
    return tuple(layer.outputs for layer in layers if isinstance(layer, Linear))


def decide_sigma_delta(
    x: Array, state: SigmaDeltaStates, layers: tuple[Layer, ...], neurons: SigmaDeltaNeurons
) -> tuple[Array, SigmaDeltaStates, Decision]:
    """Return, from the normalised x (rows, inputs), the last layer's y, the new state, the decision's costs."""
    xp = array_namespace(x)
    none = xp.astype(x[:, 0] * 0, xp.int64)
    h, memories, accumulators, residuals, spikes, operations, events, start = x, [], [], [], [], none, none, 0
    for stage, (layer, quantum, predictor) in enumerate(zip(layers, neurons.quanta, neurons.predictor, strict=True)):
        own = slice(start, start + layer.inputs)
        start = own.stop
        kept = predictor * state.memory[:, own]
        offset = neurons.offset if stage == 0 else 0.0
        v, sent = h - offset - kept, kept * 0
        if isinstance(state, CarryingState):
            v = v + neurons.alpha[stage] * state.residual[:, own]
        emitted = xp.astype(sent, xp.int64)
        for _ in range(neurons.digits[stage]):
            s = sigma_delta_spike(v, quantum, neurons.powers)
            v, sent, emitted = v - s, sent + s, emitted + xp.astype(s != 0, xp.int64)
        memory = kept + sent
        if isinstance(layer, Linear):
            accumulators.append(layer.product(predictor * memory))
            z = accumulators[-1] + layer((1 - predictor) * memory + offset)
        else:
            z = layer(memory + offset)
        memories.append(memory)
        if isinstance(state, CarryingState):
            residuals.append(sigma_delta_residual(v, emitted != 0, quantum))
        spikes.append(xp.sum(emitted, axis=1))
        operations = operations + layer.operations(emitted)
        events = events + layer.operations(xp.astype(emitted != 0, xp.int64))
        h = z if layer.activation is None else layer.activation(z)
    memory, accumulator = xp.concat(memories, axis=1), xp.concat([x[:, :0], *accumulators], axis=1)
    decision = Decision(xp.stack(spikes, axis=1), operations, none, none, none, events)
    new_state: SigmaDeltaStates = SigmaDeltaState(memory, accumulator, state.age * 0)
    if isinstance(state, CarryingState):
        new_state = CarryingState(*new_state, xp.concat(residuals, axis=1))
    return h, new_state, decision
