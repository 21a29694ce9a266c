"""Lays a network out in the flat blocks that `event_plan` describes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from snn_policy.convolution import Conv2d
from snn_policy.engines import event_kernels as kernels
from snn_policy.engines import event_plan as compiled
from snn_policy.engines.event_convolution import GEOMETRY, geometry, image_size, sums_size, tiled_kernels
from snn_policy.engines.spike_lists import ALIGNMENT, aligned, row_size, tiled
from snn_policy.layers import Layer
from snn_policy.network import SpikingNetwork
from snn_policy.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.protocol import FloatArray
from snn_policy.sigma_delta_decision import accumulator_sizes

ACTIVATIONS = {"relu": kernels.RELU, "tanh": kernels.TANH, "elu": kernels.ELU, "silu": kernels.SILU,
               "leaky_relu": kernels.LEAKY_RELU, "qcfs": kernels.QCFS}  # fmt: skip
HEADS = {"tanh": compiled.HEAD_TANH, "clip": compiled.HEAD_CLIP, "argmax": compiled.HEAD_ARGMAX}
MODELS = {"if": kernels.IF, "snm": kernels.SNM, "mt": kernels.MT}


class Layout:
    """Lays a network out in the blocks that `event_plan` describes."""

    def __init__(self, network: SpikingNetwork, rederive_after: int) -> None:
        self._network, self._actor, self._neurons = network, network.actor, network.neurons
        self._parts: list[FloatArray] = []
        self._size = 0
        columns = max(len(compiled.HEADER), len(compiled.LAYER) + len(GEOMETRY))
        self._plan = np.zeros((1 + len(self._actor.layers), columns), np.int64)
        self._convolutions = [layer for layer in self._actor.layers if isinstance(layer, Conv2d)]
        self._put_scalars()
        self._describe_network(rederive_after, len(network.spiking_widths))
        self._describe_layers()

    def blocks(self) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """`parameters` and `plan`."""
        parameters = aligned(self._size)
        np.concatenate(self._parts, out=parameters)
        return parameters, self._plan

    def _put(self, values: npt.ArrayLike) -> int:
        """Append to the parameters, up to a whole number of cache lines; returns the offset."""
        start, flat = self._size, np.asarray(values, np.float32).ravel()
        self._parts += [flat, np.zeros(-flat.size % ALIGNMENT, np.float32)]
        self._size += flat.size + self._parts[-1].size
        return start

    def _put_scalars(self) -> None:
        neurons, normaliser = self._neurons, self._actor.normaliser
        share, bound, epsilon = 0.0, 0.0, 0.0
        if isinstance(neurons, MembraneNeurons):
            share, bound = neurons.base(1.0), neurons.alpha_clip
            epsilon = neurons.calibration.epsilon if neurons.calibration else 0.0
        clip = np.inf if normaliser is None else normaliser.clip
        self._put([clip, self._actor.head.pre_clip, share, bound, epsilon])

    def _describe_network(self, rederive_after: int, spiking: int) -> None:
        actor, neurons, head = self._actor, self._neurons, self._actor.head
        inputs = actor.layers[0].inputs
        mean, scale = np.zeros(inputs), np.ones(inputs)
        if actor.normaliser is not None:
            shape = actor.observation_shape
            mean, scale = (
                np.broadcast_to(each, shape).ravel() for each in (actor.normaliser.mean, actor.normaliser.scale)
            )
        numbers = np.repeat(np.arange(len(head.choices)), head.choices)
        bounds = np.stack([numbers, 0 * numbers] if head.discrete else [head.low, head.high])
        described = {
            "layers": len(actor.layers),
            "timesteps": neurons.timesteps,
            "head_kind": HEADS[head.kind],
            "normaliser": self._put([*mean, *scale]),
            "head": self._put([*bounds.ravel(), *head.scale, *head.offset]),
            "spiking": spiking,
            "row_size": row_size(max(self._row_sizes())),
        }
        if isinstance(neurons, SigmaDeltaNeurons):
            described |= {"sigma_delta": 1, "rederive_after": rederive_after,
                          "powers": self._put(neurons.powers), "power_count": len(neurons.powers),
                          "doubling": _doubles(neurons),
                          "age": self._age, "stale": self.row_state - 1 if self._convolutions else 0}  # fmt: skip
        else:
            described |= {"model": MODELS[neurons.model], "differential": neurons.coding == "differential",
                          "levels": neurons.levels, "bounded": neurons.residual == "bounded",
                          "macs": actor.layers[0].macs, "age": sum(actor.widths[1:]),
                          **_calibration_header(neurons)}  # fmt: skip
        self._plan[0, : len(compiled.HEADER)] = [described.get(name, 0) for name in compiled.HEADER]

    def _row_sizes(self) -> Iterator[int]:
        for layer in self._actor.layers:
            yield from (layer.inputs, layer.outputs)
        for layer in self._convolutions:
            yield from (sums_size(layer), image_size(layer))

    @property
    def _age(self) -> int:
        """Where a sigma-delta row's age lies: the last of its `SigmaDeltaState`."""
        return sum(self._actor.widths) + sum(accumulator_sizes(self._actor.layers))

    @property
    def row_state(self) -> int:
        """Floats of a row of `state`: the network's own; and for sigma-delta neurons what convolutions have heard (no
        part of the network's), and whether that is stale."""
        own = sum(each.shape[1] for each in self._network.initial_state(1))
        private = isinstance(self._neurons, SigmaDeltaNeurons) and self._convolutions
        return own + (1 + sum(map(sums_size, self._convolutions)) if private else 0)

    def _describe_layers(self) -> None:
        neurons, memory, accumulator, sums = self._neurons, 0, sum(self._actor.widths), self._age + 1
        for index, layer in enumerate(self._actor.layers):
            activation = layer.activation
            described = {
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                "weights": self._put(tiled_kernels(layer) if isinstance(layer, Conv2d) else tiled(layer.weight)),
                "bias": self._put(_bias(layer, neurons, index)),
                "neurons": self._put(_neuron_vectors(neurons, index)),
                "digits": neurons.digits[index] if isinstance(neurons, SigmaDeltaNeurons) else 0,
                "activation": kernels.LINEAR if activation is None else ACTIVATIONS[activation.name],
                "slope": self._put([0, 0] if activation is None else [activation.parameter, activation.levels]),
                "memory": memory,
                "accumulator": sums if isinstance(layer, Conv2d) else accumulator,
                "alpha": self._put(_alpha(neurons, index)),
                "levels": activation.levels if activation and activation.levels else neurons.timesteps,
            }
            if isinstance(layer, Conv2d):
                described |= geometry(layer, self._put(layer.fan_out))
                sums += sums_size(layer)
            else:
                accumulator += layer.outputs
            columns = (*compiled.LAYER, *GEOMETRY)
            self._plan[1 + index, : len(columns)] = [described.get(name, 0) for name in columns]
            memory += layer.inputs if isinstance(neurons, SigmaDeltaNeurons) else layer.outputs


def _doubles(neurons: SigmaDeltaNeurons) -> bool:
    """Whether spikes are quanta times powers of two, all of them normal numbers in float32."""
    quanta = np.concatenate(neurons.quanta)
    alive = quanta[quanta > 0]
    return neurons.base == 2 and bool(((alive > 2.0**-100) & (alive < 2.0**80)).all())


def _calibration_header(neurons: MembraneNeurons) -> dict[str, int]:
    settings = neurons.calibration
    if settings is None:
        return {}
    return {
        "calibrates": 1,
        "simulation_steps": settings.simulation_steps or neurons.timesteps,
        "literal": settings.rule == "literal",
        "least_iterations": settings.least_iterations,
        "most_iterations": settings.most_iterations,
        "adaptive": settings.adaptive is not None,
        "error_tolerance": settings.error_tolerance,
    }


def _alpha(neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> tuple[float, ...]:
    return neurons.alpha[index : index + 1] if isinstance(neurons, MembraneNeurons) else ()


def _bias(layer: Layer, neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> FloatArray:
    """The bias; where a layer's input is sent less an offset, with the offset's share: b + W·c."""
    bias = layer.unit_bias if isinstance(layer, Conv2d) else layer.bias
    if index or isinstance(neurons, MembraneNeurons):
        return bias
    if isinstance(layer, Conv2d):
        return layer(neurons.offset[None])[0]
    return (bias + layer.weight.astype(np.float64) @ neurons.offset).astype(np.float32)


def _neuron_vectors(neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> FloatArray:
    """Sigma-delta: quantum, quantum·k (infinite for a dead neuron), γ, offset of stage `index`; else θ, if any."""
    if isinstance(neurons, MembraneNeurons):
        return neurons.thresholds[index] if index < len(neurons.thresholds) else np.zeros(0, np.float32)
    quantum = neurons.quanta[index]
    reach = (1 + 1 / neurons.powers[1]) / 2
    unit = np.where(quantum > 0, quantum * reach, np.float32(np.inf)).astype(np.float32)
    offset = neurons.offset if index == 0 else np.zeros_like(quantum)
    return np.concatenate([quantum, unit, neurons.predictor[index], offset])
