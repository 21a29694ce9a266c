"""Lays a network out as the core's program: a header, records of stages and connections, parameters and indices.

`program.h` says what every field means; tests/test_core_program.py holds the two lists of fields together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Layer, Linear
from snn_policy.engines.core.blocks import Packed, in_order, pack
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.sigma_delta import accumulator_sizes

NEURONS = ("sigma-delta", "if", "snm", "mt")
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "leaky_relu", "qcfs", "softplus", "softsign", "mish", "gelu",
               "gelu_tanh", None)  # fmt: skip
HEADS = ("tanh", "clip", "argmax")
LINEAR, CONV2D, SPARSE = range(3)
LANES, NONE = 16, -1
(EVENTS, OPERATIONS, MACS, ITERATIONS, ERRORS, DECISIONS, SUMS) = range(7)


def _record(integers: str, floats: str = "", longs: str = "") -> np.dtype[Any]:
    fields = [*((name, np.int64) for name in longs.split()), *((name, np.int32) for name in integers.split()),
              *((name, np.float32) for name in floats.split())]  # fmt: skip
    return np.dtype(fields, align=True)


HEADER = _record(
    "neuron stage_count connection_count parameter_count first_spiking slots row_size action_size state_size "
    "normaliser head_kind head timesteps powers power_count doubling rederive_after age stale differential levels "
    "bounded extra calibrates simulation_steps literal least_iterations most_iterations adaptive error_tolerance "
    "index_count",
    "clip pre_clip start_share bound epsilon",
    "macs",
)
STAGE = _record(
    "width first_connection connection_count bias activation neurons offset digits slot memory residual fan_out "
    "uniform_fan_out levels",
    "parameter activation_levels alpha",
)
CONNECTION = _record(
    "kind source inputs outputs weights stride accumulator channels height width kernel_height kernel_width down right "
    "above beside out_channels out_height out_width in_order block starts columns"
)


@dataclass(frozen=True, eq=False)
class Layout:
    """Hold a program's blocks.

    Attributes:
        header, stages, connections: records (1,), (stages,), (connections,).
        parameters: every float of the network, each vector from a cache line on.
        indices: where the blocks of sparse weights begin, and which outputs they are of.
    """

    header: npt.NDArray[Any]
    stages: npt.NDArray[Any]
    connections: npt.NDArray[Any]
    parameters: FloatArray
    indices: npt.NDArray[np.int32]


def aligned(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return zeros (size,), beginning on a cache line."""
    kind = np.dtype(dtype)
    room = np.zeros(size + 64 // kind.itemsize, kind)
    return room[-room.ctypes.data % 64 // kind.itemsize :][:size]


def padded(outputs: int, lanes: int = LANES) -> int:
    """Return outputs rounded up to whole vectors."""
    return -(-outputs // lanes) * lanes


def count_size(spiking: int) -> int:
    """Return numbers in a row of counts, of so many spiking stages: see `snn_count` in program.h."""
    return 3 * spiking + SUMS + DECISIONS


def weight_stride(outputs: int, lanes: int = LANES) -> int:
    """Return floats from one neuron's weights to the next one's: whole vectors, and an odd number of cache lines where
    rows are long, so that a tile of columns fills all of the cache's sets and not each fourth one."""
    whole = padded(outputs, lanes)
    return whole + LANES if lanes == LANES and whole >= 128 and whole // LANES % 2 == 0 else whole


def row_size(widest: int, lanes: int = LANES) -> int:
    """Return floats of a buffer for up to `widest` values and a list's end; not a multiple of the caches' stride, so
    that neighbouring rows do not displace each other. Where memory is short (fewer lanes), no more than that."""
    if lanes < LANES:
        return padded(widest) + LANES
    return -(-(widest + LANES) // 64) * 64 + LANES


class Writer:
    """Write a network's program; `lanes` is what rows of weights are padded to: 1 where memory is short."""

    def __init__(self, network: SpikingNetwork, rederive_after: int, lanes: int = LANES) -> None:
        self._network, self._actor, self._neurons, self._lanes = network, network.actor, network.neurons, lanes
        self._parts: list[FloatArray] = []
        self._size = 0
        self._index_parts: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        layers = self._actor.layers
        self._header = np.zeros(1, HEADER)
        self._stages = np.zeros(len(layers) + 1, STAGE)
        self._connections = np.zeros(len(layers), CONNECTION)
        self._sigma_delta = isinstance(self._neurons, SigmaDeltaNeurons)
        self._own = sum(array.shape[1] for array in network.initial_state(1))
        self._convolutions = [layer for layer in layers if isinstance(layer, Conv2d)]
        self._write_stages()
        self._write_connections()
        self._write_header(rederive_after)

    def layout(self) -> Layout:
        """Return the blocks."""
        parameters = aligned(self._size)
        if self._size:
            np.concatenate(self._parts, out=parameters)
        return Layout(self._header, self._stages, self._connections, parameters, np.concatenate(self._index_parts))

    def _put(self, values: npt.ArrayLike) -> int:
        """Append to the parameters, up to a whole number of vectors; returns the offset."""
        start, flat = self._size, np.asarray(values, np.float32).ravel()
        self._parts += [flat, np.zeros(-flat.size % self._lanes, np.float32)]
        self._size += flat.size + self._parts[-1].size
        return start

    def _put_indices(self, values: npt.NDArray[Any]) -> int:
        """Append to the indices; returns the offset."""
        start = self._index_count
        self._index_parts.append(values.astype(np.int32))
        return start

    @property
    def _index_count(self) -> int:
        return sum(map(len, self._index_parts))

    def _write_header(self, rederive_after: int) -> None:
        actor, neurons, head, normaliser = self._actor, self._neurons, self._actor.head, self._actor.normaliser
        numbers = np.repeat(np.arange(len(head.choices)), head.choices)
        bounds = np.stack([numbers, 0 * numbers] if head.discrete else [head.low, head.high])
        values: dict[str, Any] = {
            "stage_count": len(self._stages), "connection_count": len(self._connections),
            "first_spiking": 0 if self._sigma_delta else 1, "slots": 1, "row_size": self._row_size(),
            "action_size": len(head.choices) or head.outputs, "state_size": self.state_size,
            "normaliser": NONE, "clip": np.inf, "head_kind": HEADS.index(head.kind), "pre_clip": head.pre_clip,
            "head": self._put([*bounds.ravel(), *head.scale, *head.offset]), "timesteps": neurons.timesteps,
        }  # fmt: skip
        if normaliser is not None:
            shape = actor.observation_shape
            pair = [np.broadcast_to(side, shape).ravel() for side in (normaliser.mean, normaliser.scale)]
            values |= {"normaliser": self._put(np.concatenate(pair)), "clip": normaliser.clip}
        values |= self._sigma_delta_header(rederive_after) if self._sigma_delta else self._membrane_header()
        for name, value in {**values, "parameter_count": self._size, "index_count": self._index_count}.items():
            self._header[name] = value

    def _sigma_delta_header(self, rederive_after: int) -> dict[str, Any]:
        neurons = self._neurons
        assert isinstance(neurons, SigmaDeltaNeurons)
        return {
            "neuron": NEURONS.index("sigma-delta"), "powers": self._put(neurons.powers),
            "power_count": len(neurons.powers), "doubling": doubles(neurons),
            "rederive_after": min(rederive_after, 2**31 - 1),
            "age": self._age, "stale": self.state_size - 1 if self._convolutions else NONE,
        }  # fmt: skip

    def _membrane_header(self) -> dict[str, Any]:
        neurons = self._neurons
        assert isinstance(neurons, MembraneNeurons)
        values: dict[str, Any] = {
            "neuron": NEURONS.index(neurons.model), "differential": neurons.coding == "differential",
            "levels": neurons.levels or 1, "bounded": neurons.residual == "bounded",
            "macs": self._actor.layers[0].synapses,
            "start_share": neurons.base(1.0), "bound": neurons.alpha_clip, "extra": sum(self._actor.widths[1:]),
        }  # fmt: skip
        settings = neurons.calibration
        if settings is not None:
            values |= {
                "calibrates": 1, "simulation_steps": settings.simulation_steps or neurons.timesteps,
                "literal": settings.rule == "literal", "least_iterations": settings.least_iterations,
                "most_iterations": settings.most_iterations, "adaptive": settings.adaptive is not None,
                "error_tolerance": settings.error_tolerance, "epsilon": settings.epsilon,
            }  # fmt: skip
        return values

    def _row_size(self) -> int:
        layers = self._actor.layers
        sizes = [padded(layer.inputs) for layer in layers]
        sizes += [weight_stride(layer.outputs, self._lanes) for layer in layers]
        for layer in self._convolutions:
            channels, height, width = layer.input_shape
            vertical, horizontal = layer.padding
            sizes += [self._sums_size(layer), channels * (height + 2 * vertical) * (width + 2 * horizontal)]
        return row_size(max(sizes), self._lanes)

    def _sums_size(self, layer: Conv2d) -> int:
        channels, height, width = layer.output_shape
        return padded(channels, self._lanes) * height * width

    @property
    def state_size(self) -> int:
        """Return the floats of a row's state: the network's own; and for sigma-delta neurons what convolutions have
        received (no part of the network's), and whether that is stale."""
        private = self._sigma_delta and self._convolutions
        return self._own + (1 + sum(map(self._sums_size, self._convolutions)) if private else 0)

    @property
    def _age(self) -> int:
        """Return where a row's state counts decisions: after memories and accumulators."""
        return sum(self._network.spiking_widths) + sum(accumulator_sizes(self._actor.graph))

    def _write_stages(self) -> None:
        actor, memory = self._actor, 0
        widths = (*actor.widths, actor.layers[-1].outputs)
        for index, width in enumerate(widths):
            values: dict[str, Any] = {
                "width": width, "first_connection": max(index - 1, 0), "connection_count": min(index, 1),
                "activation": ACTIVATIONS.index(None), "offset": NONE, "fan_out": NONE, "memory": memory,
                "residual": NONE,
            }  # fmt: skip
            if index:
                values |= self._received(actor.layers[index - 1], index)
            if index < len(actor.layers) and (index or self._sigma_delta):
                values |= self._sent(actor.layers[index], index) | self._carried(index, memory)
                memory += width
            for name, value in values.items():
                self._stages[index][name] = value

    def _received(self, layer: Layer, index: int) -> dict[str, Any]:
        """Write a stage's side towards its sources: bias and activation."""
        activation, bias, neurons = layer.activation, layer.unit_bias, self._neurons
        if index == 1 and isinstance(neurons, SigmaDeltaNeurons):  # the input is sent less an offset: b + W·c
            shared = layer(neurons.offset[None])[0] if isinstance(layer, Conv2d) else (
                bias + layer.weight.astype(np.float64) @ neurons.offset)  # fmt: skip
            bias = shared.astype(np.float32)
        values: dict[str, Any] = {"bias": self._put(bias), "levels": self._neurons.timesteps}
        if activation is not None:
            values |= {"activation": ACTIVATIONS.index(activation.name), "parameter": activation.parameter,
                       "activation_levels": activation.levels,
                       "levels": activation.levels or self._neurons.timesteps}  # fmt: skip
        return values

    def _sent(self, layer: Layer, index: int) -> dict[str, Any]:
        """Write a spiking stage's side towards its receivers: neurons, digits, fan-out."""
        neurons = self._neurons
        if isinstance(neurons, MembraneNeurons):
            values: dict[str, Any] = {"neurons": self._put(neurons.thresholds[index - 1]),
                                      "alpha": neurons.alpha[index - 1]}  # fmt: skip
        else:
            quantum, reach = neurons.quanta[index], (1 + 1 / neurons.powers[1]) / 2
            unit = np.where(quantum > 0, quantum * reach, np.float32(np.inf)).astype(np.float32)
            values = {"neurons": self._put(np.concatenate([quantum, unit, neurons.predictor[index]])),
                      "digits": neurons.digits[index]}  # fmt: skip
            if index == 0:
                values["offset"] = self._put(neurons.offset)
        if isinstance(layer, Conv2d) or layer.uniform_fan_out is None:
            return {**values, "fan_out": self._put(layer.fan_out)}
        return {**values, "uniform_fan_out": layer.uniform_fan_out}

    def _carried(self, index: int, memory: int) -> dict[str, Any]:
        """Write a stage's α and the place of its residuals, where the network carries any."""
        neurons = self._neurons
        if not isinstance(neurons, SigmaDeltaNeurons) or not neurons.carries:
            return {}
        return {"alpha": neurons.alpha[index], "residual": self._age + 1 + memory}

    def _write_connections(self) -> None:
        accumulator, sums = sum(self._network.spiking_widths), self._own
        for index, layer in enumerate(self._actor.layers):
            values: dict[str, Any] = {"source": index, "inputs": layer.inputs, "outputs": layer.outputs}
            if isinstance(layer, Conv2d):
                values |= self._convolution(layer) | {"accumulator": sums}
                sums += self._sums_size(layer)
            else:
                values |= self._linear(layer) | {"accumulator": accumulator}
                accumulator += layer.outputs
            for name, value in values.items():
                self._connections[index][name] = value

    def _linear(self, layer: Linear) -> dict[str, Any]:
        """Write weights as dense rows, or, of a sparse layer, as blocks where that is faster (or, in short memory,
        smaller).

        Either way, and whatever the lanes, a sparse layer's sums are taken in the same order.
        """
        if in_order(layer):
            packed = pack(layer.weight)
            if self.packs(packed):
                return {"kind": SPARSE, "weights": self._put(packed.weights), "block": packed.block,
                        "starts": self._put_indices(packed.starts),
                        "columns": self._put_indices(packed.columns)}  # fmt: skip
        weights = np.zeros((layer.inputs, weight_stride(layer.outputs, self._lanes)), np.float32)
        weights[:, : layer.outputs] = layer.weight.T
        return {"kind": LINEAR, "weights": self._put(weights), "stride": weights.shape[1], "in_order": in_order(layer)}

    def packs(self, packed: Packed) -> bool:
        """Return whether a sparse layer's weights are stored as these blocks."""
        return packed.bytes < packed.dense if self._lanes < LANES else packed.pays

    def _convolution(self, layer: Conv2d) -> dict[str, Any]:
        channels = layer.weight.shape[0]
        kernels = np.zeros((*layer.weight.shape[1:], padded(channels, self._lanes)), np.float32)
        kernels[..., :channels] = layer.weight.transpose(1, 2, 3, 0)
        geometry = (*layer.input_shape, *layer.weight.shape[2:], *layer.stride, *layer.padding, *layer.output_shape)
        names = CONNECTION.names
        assert names is not None
        named = zip(names[names.index("channels") : names.index("in_order")], geometry, strict=True)
        return {"kind": CONV2D, "weights": self._put(kernels), "stride": kernels.shape[-1], **dict(named)}


def doubles(neurons: SigmaDeltaNeurons) -> bool:
    """Return whether spikes are quanta times powers of two, all of them normal numbers in float32."""
    quanta = np.concatenate(neurons.quanta)
    alive = quanta[quanta > 0]
    return neurons.base == 2 and bool(((alive > 2.0**-100) & (alive < 2.0**80)).all())
