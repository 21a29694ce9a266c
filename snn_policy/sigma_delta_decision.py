"""One decision of sigma-delta networks, pure and array-API: stage by stage. Equations: docs/methods.md §1.

This is the reference: it derives the accumulators from the memory in every decision, so they carry no rounding.
"""

from typing import Any

from array_api_compat import array_namespace

from snn_policy.layers import Linear, affine
from snn_policy.neurons import SigmaDeltaNeurons, sigma_delta_spike
from snn_policy.protocol import Decision
from snn_policy.state import SigmaDeltaState


def decide_sigma_delta(
    x: Any, state: SigmaDeltaState, layers: tuple[Linear, ...], neurons: SigmaDeltaNeurons
) -> tuple[Any, SigmaDeltaState, Decision]:
    """From the normalised observation x (rows, inputs): the last layer's y, the new state, the decision's costs."""
    xp = array_namespace(x)
    none = xp.astype(x[:, 0] * 0, xp.int64)
    h, memories, accumulators, spikes, operations, start = x, [], [], [], none, 0
    for stage, (layer, quantum, predictor) in enumerate(zip(layers, neurons.quanta, neurons.predictor, strict=True)):
        kept = predictor * state.memory[:, start : start + layer.inputs]
        start += layer.inputs
        offset = neurons.offset if stage == 0 else 0.0
        v, told, emitted = h - offset - kept, kept * 0, none
        for _ in range(neurons.digits[stage]):
            s = sigma_delta_spike(v, quantum, neurons.powers)
            v, told, emitted = v - s, told + s, emitted + xp.sum(xp.astype(s != 0, xp.int64), axis=1)
        memory = kept + told
        accumulator = affine(predictor * memory, layer.weight)
        z = accumulator + affine((1 - predictor) * memory + offset, layer.weight, layer.bias)
        memories.append(memory)
        accumulators.append(accumulator)
        spikes.append(emitted)
        operations = operations + emitted * layer.outputs
        h = z if layer.activation is None else layer.activation(z)
    memory, accumulator = xp.concat(memories, axis=1), xp.concat(accumulators, axis=1)
    decision = Decision(xp.stack(spikes, axis=1), operations, none, none, none)
    return h, SigmaDeltaState(memory, accumulator, state.age * 0), decision
