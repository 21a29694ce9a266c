"""Lays a network out as the core's program: a header, records of stages and connections, parameters and indices.

`program.h` says what every field means.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.cells import Elementwise
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage
from snn_policy.engines.core import places
from snn_policy.engines.core.blocks import Packed, in_order, pack
from snn_policy.engines.core.buffers import aligned, padded, row_size, weight_stride
from snn_policy.engines.core.cell_record import cell_fields
from snn_policy.engines.core.places import StatePlaces, port_places
from snn_policy.engines.core.records import (
    ACTIVATIONS,
    CONNECTION,
    CONV2D,
    HEADER,
    HEADS,
    LANES,
    LINEAR,
    NEURONS,
    NONE,
    SELECT,
    SPARSE,
    STAGE,
)
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons


@dataclass(frozen=True, eq=False)
class Layout:
    """Hold a program's blocks.

    Attributes:
        header, stages, connections: records (1,), (stages,), (connections,).
        parameters: every float of the network, each vector from a cache line on.
        indices: where the blocks of sparse weights begin, and which outputs they are of; which entries are selected.
    """

    header: npt.NDArray[Any]
    stages: npt.NDArray[Any]
    connections: npt.NDArray[Any]
    parameters: FloatArray
    indices: npt.NDArray[np.int32]


class Writer:
    """Write a network's program.

    Args:
        lanes: what rows of weights are padded to: 1 for processors without vectors.
        compact: memory is short: sparse layers lie as they take the fewest bytes, not the least time.
    """

    def __init__(self, network: SpikingNetwork, rederive_after: int, lanes: int = LANES, compact: bool = False) -> None:
        self._compact = compact
        self._network, self._actor, self._neurons, self._lanes = network, network.actor, network.neurons, lanes
        self._parts: list[FloatArray] = []
        self._size = 0
        self._index_parts: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self._graph = network.actor.graph
        self._stage_of = [stage for stage in self._graph.stages for _ in stage.connections]
        self._all = [one for stage in self._graph.stages for one in stage.connections]
        self._header = np.zeros(1, HEADER)
        self._stages = np.zeros(len(self._graph.stages) + 1, STAGE)
        self._connections = np.zeros(len(self._all), CONNECTION)
        self._sigma_delta = isinstance(self._neurons, SigmaDeltaNeurons)
        if not self._sigma_delta:
            _ = self._graph.layers  # membranes stand for chains; other graphs refuse by name
        self._places = StatePlaces(self._graph, isinstance(self._neurons, SigmaDeltaNeurons) and self._neurons.carries)
        self._slots = places.slots(self._graph)
        self._own = sum(array.shape[1] for array in network.initial_state(1))
        self._convolutions = [one.map for one in self._all if isinstance(one.map, Conv2d)]
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
            "first_spiking": 0 if self._sigma_delta else 1, "slots": 1 + max(self._slots), "row_size": self._row_size(),
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
            "neuron": NEURONS.index("sigma-delta"), "macs": self._graph.cell_macs, "powers": self._put(neurons.powers),
            "power_count": len(neurons.powers), "doubling": doubles(neurons),
            "rederive_after": min(rederive_after, 2**31 - 1),
            "age": self._places.age, "stale": self.state_size - 1 if self._convolutions else NONE,
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
        sizes = [padded(width) for width in self._graph.widths]
        for stage, one in zip(self._stage_of, self._all, strict=True):
            *begin, whole = port_places(stage.cell, self._lanes)
            sizes += [whole, begin[one.port] + weight_stride(one.map.outputs, self._lanes)]
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

    def _write_stages(self) -> None:
        widths, first = (*self._graph.widths, self._graph.outputs), 0
        for index, width in enumerate(widths):
            values: dict[str, Any] = {
                "width": width, "z_width": width, "activation": ACTIVATIONS.index(None),
                "other_activation": ACTIVATIONS.index(None), "cell_start": NONE, "offset": NONE, "fan_out": NONE,
                "residual": NONE,
            }  # fmt: skip
            if index:
                stage = self._graph.stages[index - 1]
                values |= {"first_connection": first, "connection_count": len(stage.connections)}
                values |= self._received(stage) | self._levels(stage)
                values |= cell_fields(stage.cell, self._places.cells[index - 1], self._put)
                first += len(stage.connections)
            if index < len(self._graph.widths) and (index or self._sigma_delta):
                values |= self._sent(index) | self._carried(index)
            for name, value in values.items():
                self._stages[index][name] = value

    def _received(self, stage: Stage) -> dict[str, Any]:
        """Write a stage's side towards its sources: where its ports begin, and what they hold before anything comes."""
        *begin, whole = port_places(stage.cell, self._lanes)
        sums: dict[int, npt.NDArray[np.floating]] = {}
        for one in stage.connections:
            constant = self._constant(one)
            sums[one.port] = sums[one.port] + constant if one.port in sums else constant
        bias = np.zeros(whole, np.float32)
        for port, values in sums.items():
            bias[begin[port] : begin[port] + len(values)] = values
        return {"bias": self._put(bias), "z_width": whole, "second": begin[1] if len(begin) > 1 else 0}

    def _constant(self, one: Connection) -> npt.NDArray[np.floating]:
        """Return what a connection adds in every decision: b + W·c, where its source is sent less an offset c."""
        offset = self._offset(one.source)
        if offset is None:
            return one.map.unit_bias
        if isinstance(one.map, Linear):
            return one.map.bias + one.map.weight.astype(np.float64) @ offset
        return one.map(offset[None])[0]

    def _offset(self, source: int) -> FloatArray | None:
        """Return c of a stage: the mean observation, or what the stage starts from; None for zeros."""
        neurons = self._neurons
        if not isinstance(neurons, SigmaDeltaNeurons):
            return None
        return neurons.offset if source == 0 else self._graph.stages[source - 1].start

    def _levels(self, stage: Stage) -> dict[str, Any]:
        """Write the levels of the shadow network: QCFS's own, else T."""
        activation = stage.cell.activation if isinstance(stage.cell, Elementwise) else None
        own = 0 if activation is None else activation.levels
        return {"levels": own or self._neurons.timesteps}

    def _sent(self, index: int) -> dict[str, Any]:
        """Write a spiking stage's side towards its receivers: neurons, digits, slot, memory, fan-out."""
        neurons, fan_out = self._neurons, self._graph.fan_out[index]
        if isinstance(neurons, MembraneNeurons):
            values: dict[str, Any] = {"neurons": self._put(neurons.thresholds[index - 1]),
                                      "memory": self._places.memories[index] - self._graph.inputs,
                                      "alpha": neurons.alpha[index - 1]}  # fmt: skip
        else:
            quantum, reach = neurons.quanta[index], (1 + 1 / neurons.powers[1]) / 2
            unit = np.where(quantum > 0, quantum * reach, np.float32(np.inf)).astype(np.float32)
            values = {"neurons": self._put(np.concatenate([quantum, unit, neurons.predictor[index]])),
                      "digits": neurons.digits[index], "slot": self._slots[index],
                      "memory": self._places.memories[index]}  # fmt: skip
            offset = self._offset(index)
            if offset is not None:
                values["offset"] = self._put(offset)
        if (fan_out == fan_out[0]).all():
            return {**values, "uniform_fan_out": fan_out[0]}
        return {**values, "fan_out": self._put(fan_out)}

    def _carried(self, index: int) -> dict[str, Any]:
        """Write a stage's α and the place of its residuals, where the network carries any."""
        neurons = self._neurons
        if not isinstance(neurons, SigmaDeltaNeurons) or not neurons.carries:
            return {}
        return {"alpha": neurons.alpha[index], "residual": self._places.residuals[index]}

    def _write_connections(self) -> None:
        sums = self._own
        for index, (stage, one) in enumerate(zip(self._stage_of, self._all, strict=True)):
            values: dict[str, Any] = {
                "source": one.source, "inputs": one.map.inputs, "outputs": one.map.outputs, "delayed": one.delayed,
                "into": port_places(stage.cell, self._lanes)[one.port], "accumulator": self._places.accumulators[index],
            }  # fmt: skip
            if isinstance(one.map, Conv2d):
                values |= self._convolution(one.map) | {"accumulator": sums}
                sums += self._sums_size(one.map)
            elif isinstance(one.map, Select):
                values |= {"kind": SELECT, "columns": self._put_indices(one.map.indices)}
            else:
                values |= self._linear(one.map)
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
        return packed.bytes < packed.dense if self._compact else packed.pays

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
