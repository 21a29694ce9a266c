"""Compiled convolutions of spikes: the weights of a spike are added to the outputs it reaches, and to no others.

A layer's output channels lie in *tiles* of 32 (16 where it has few), padded with zeros: weights (tiles, channels,
kernel height, kernel width, lanes), sums (tiles, height, width, lanes), so that everything a spike adds to one position
lies together. A train that holds so many spikes that a list no longer pays is convolved as an image. Neurons and trains
keep the order (channels, height, width) of `snn_policy.convolution`.

The inner loops are written in LLVM's own terms, as in `spike_lists`.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from snn_policy.convolution import Conv2d
from snn_policy.engines.compilation import kernel as compiled
from snn_policy.engines.event_plan import INPUTS, LAYER, OUTPUTS, WEIGHTS
from snn_policy.engines.spike_lists import FLOAT, LONG, NARROW, everywhere, propagate
from snn_policy.protocol import FloatArray

TILE = 2 * NARROW
DENSE_FROM = 16
"""A train is convolved as an image where more than one in so many of its neurons spiked: what a listed spike adds to
one position takes some sixteen times as long as what a pixel of an image does (layers of 3×3 and of 8×8)."""
TOGETHER = 4
"""Output positions of an image whose sums are kept in registers at once."""

# plan[1 + layer], after the columns of every layer; CONVOLUTION is 0 for linear ones
GEOMETRY = ("convolution", "channels", "height", "width", "kernel_height", "kernel_width", "down", "right", "above",
            "beside", "out_channels", "out_height", "out_width", "lanes", "fan_out")  # fmt: skip
(CONVOLUTION, CHANNELS, HEIGHT, WIDTH, KERNEL_HEIGHT, KERNEL_WIDTH, DOWN, RIGHT, ABOVE, BESIDE, OUT_CHANNELS,
 OUT_HEIGHT, OUT_WIDTH, LANES, FAN_OUT) = range(len(LAYER), len(LAYER) + len(GEOMETRY))  # fmt: skip


def lanes_for(layer: Conv2d) -> int:
    """Output channels per tile."""
    return NARROW if layer.output_shape[0] <= NARROW else TILE


def geometry(layer: Conv2d, fan_out: int) -> dict[str, int]:
    """The layer's columns of the plan; `fan_out` is where the parameters hold that of its inputs."""
    values = (1, *layer.input_shape, *layer.weight.shape[2:], *layer.stride, *layer.padding, *layer.output_shape,
              lanes_for(layer), fan_out)  # fmt: skip
    return dict(zip(GEOMETRY, values, strict=True))


def tiled_kernels(layer: Conv2d) -> FloatArray:
    """A convolution's weight as (tiles, channels, kernel height, kernel width, lanes)."""
    channels, lanes = layer.weight.shape[0], lanes_for(layer)
    padded = np.zeros((-(-channels // lanes) * lanes, *layer.weight.shape[1:]), np.float32)
    padded[:channels] = layer.weight
    return np.ascontiguousarray(padded.reshape(-1, lanes, *padded.shape[1:]).transpose(0, 2, 3, 4, 1))


def sums_size(layer: Conv2d) -> int:
    """Floats of a convolution's sums."""
    channels, height, width = layer.output_shape
    lanes = lanes_for(layer)
    return -(-channels // lanes) * lanes * height * width


def image_size(layer: Conv2d) -> int:
    """Floats of a convolution's padded image."""
    channels, height, width = layer.input_shape
    return channels * (height + 2 * layer.padding[0]) * (width + 2 * layer.padding[1])


def _at(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """The pointer to an element of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def _spike_adder(lanes: int) -> Any:
    """Compiled: add(weights, start, size, sums, place): sums[place:][:lanes] += size·weights[start:][:lanes]."""
    vector = ir.VectorType(FLOAT, lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, start, size, sums, place = arguments
        row = builder.bitcast(_at(context, builder, signature.args[0], weights, start), vector.as_pointer())
        total = builder.bitcast(_at(context, builder, signature.args[3], sums, place), vector.as_pointer())
        share = builder.fmul(everywhere(builder, size, vector), builder.load(row, align=4))
        builder.store(builder.fadd(builder.load(total, align=4), share), total, align=4)
        return context.get_dummy_value()

    @intrinsic
    def add(typing: Any, weights: Any, start: Any, size: Any, sums: Any, place: Any):
        return types.void(weights, types.int64, types.float32, sums, types.int64), generate

    return add


def _window_adder(lanes: int, together: int) -> Any:
    """Compiled: add(image, first, apart, channels, plane, rows, columns, pitch, weights, start, sums, place): the sums
    of `together` neighbouring positions, whose windows begin `apart` pixels apart, grow by their windows' products."""
    vector = ir.VectorType(FLOAT, lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        image, first, apart, channels, plane, rows, columns, pitch, weights, start, sums, place = arguments
        kinds = signature.args
        corner = _at(context, builder, kinds[0], image, first)
        total = builder.bitcast(_at(context, builder, kinds[10], sums, place), vector.as_pointer())
        totals = [builder.gep(total, [LONG(i)]) for i in range(together)]
        kept = [cgutils.alloca_once_value(builder, builder.load(each, align=4)) for each in totals]
        base = builder.bitcast(_at(context, builder, kinds[8], weights, start), vector.as_pointer())
        kernel = cgutils.alloca_once_value(builder, base)
        with cgutils.for_range(builder, channels, intp=LONG) as channel:
            front = builder.gep(corner, [builder.mul(channel.index, plane)])
            with cgutils.for_range(builder, rows, intp=LONG) as row:
                line = builder.gep(front, [builder.mul(row.index, pitch)])
                with cgutils.for_range(builder, columns, intp=LONG) as column:
                    weight = builder.load(builder.load(kernel), align=4)
                    pixel = builder.gep(line, [column.index])
                    for i, own in enumerate(kept):
                        value = builder.load(builder.gep(pixel, [builder.mul(LONG(i), apart)]))
                        share = builder.fmul(everywhere(builder, value, vector), weight)
                        builder.store(builder.fadd(builder.load(own), share), own)
                    builder.store(builder.gep(builder.load(kernel), [LONG(1)]), kernel)
        for own, each in zip(kept, totals, strict=True):
            builder.store(builder.load(own), each, align=4)
        return context.get_dummy_value()

    @intrinsic
    def add(
        typing: Any, image: Any, first: Any, apart: Any, channels: Any, plane: Any, rows: Any, columns: Any, pitch: Any,
        weights: Any, start: Any, sums: Any, place: Any,
    ):  # fmt: skip
        numbers = (types.int64,) * 7
        return types.void(image, *numbers, weights, types.int64, sums, types.int64), generate

    return add


_add_spike, _add_narrow_spike = _spike_adder(TILE), _spike_adder(NARROW)
_add_windows, _add_narrow_windows = _window_adder(TILE, TOGETHER), _window_adder(NARROW, TOGETHER)
_add_window, _add_narrow_window = _window_adder(TILE, 1), _window_adder(NARROW, 1)


@compiled
def _first(reach: int, kernel: int, stride: int) -> int:
    """The first output whose window covers a pixel at `reach`, padding included."""
    return 0 if reach < kernel else (reach - kernel + stride) // stride


@compiled
def _spread(own: Any, parameters: Any, listed: Any, sizes: Any, sums: Any) -> None:
    """sums += W ∗ the spikes of a list (its number of spikes comes first)."""
    height, width, lanes = own[HEIGHT], own[WIDTH], own[LANES]
    rows, columns, down, right = own[KERNEL_HEIGHT], own[KERNEL_WIDTH], own[DOWN], own[RIGHT]
    out_height, out_width = own[OUT_HEIGHT], own[OUT_WIDTH]
    weights_of_tile, sums_of_tile = own[CHANNELS] * rows * columns * lanes, out_height * out_width * lanes
    for tile in range((own[OUT_CHANNELS] + lanes - 1) // lanes):
        start, origin = own[WEIGHTS] + tile * weights_of_tile, tile * sums_of_tile
        channel, line, ahead = 0, 0, width
        for i in range(listed[0]):
            j, size = np.int64(listed[1 + i]), sizes[i]
            while j >= ahead:  # neurons come in rising order: a division per spike would cost more than its kernel
                line, ahead = line + 1, ahead + width
                if line == height:
                    channel, line = channel + 1, 0
            y, x = line + own[ABOVE], j - ahead + width + own[BESIDE]
            for out_y in range(_first(y, rows, down), min(y // down, out_height - 1) + 1):
                kernel = start + ((channel * rows + y - out_y * down) * columns + x) * lanes
                place = origin + out_y * out_width * lanes
                for out_x in range(_first(x, columns, right), min(x // right, out_width - 1) + 1):
                    if lanes == NARROW:
                        _add_narrow_spike(parameters, kernel - out_x * right * lanes, size, sums, place + out_x * lanes)
                    else:
                        _add_spike(parameters, kernel - out_x * right * lanes, size, sums, place + out_x * lanes)


@compiled
def _draw(own: Any, listed: Any, sizes: Any, image: Any) -> None:
    """The spikes of a list as an image with its padding."""
    width, margin = own[WIDTH], own[BESIDE]
    pitch, height = width + 2 * margin, own[HEIGHT] + 2 * own[ABOVE]
    for k in range(own[CHANNELS] * height * pitch):
        image[k] = np.float32(0)
    line, ahead, place = 0, width, own[ABOVE] * pitch + margin
    for i in range(listed[0]):
        j = np.int64(listed[1 + i])
        while j >= ahead:
            line, ahead, place = line + 1, ahead + width, place + pitch
            if line == own[HEIGHT]:
                line, place = 0, place + 2 * own[ABOVE] * pitch
        image[place + j - ahead + width] = sizes[i]


@compiled
def _slide(own: Any, parameters: Any, image: Any, sums: Any) -> None:
    """sums += W ∗ image."""
    height, width = own[HEIGHT] + 2 * own[ABOVE], own[WIDTH] + 2 * own[BESIDE]
    lanes, out_width, right = own[LANES], own[OUT_WIDTH], own[RIGHT]
    plane, channels, rows, columns = height * width, own[CHANNELS], own[KERNEL_HEIGHT], own[KERNEL_WIDTH]
    weights_of_tile, sums_of_tile = channels * rows * columns * lanes, own[OUT_HEIGHT] * out_width * lanes
    for tile in range((own[OUT_CHANNELS] + lanes - 1) // lanes):
        start = own[WEIGHTS] + tile * weights_of_tile
        for out_y in range(own[OUT_HEIGHT]):
            line, place = out_y * own[DOWN] * width, tile * sums_of_tile + out_y * out_width * lanes
            out_x = 0
            while out_x < out_width:
                first, to = line + out_x * right, place + out_x * lanes
                several = out_x + TOGETHER <= out_width
                if several and lanes == NARROW:
                    _add_narrow_windows(image, first, right, channels, plane, rows, columns, width, parameters, start,
                                        sums, to)  # fmt: skip
                elif several:
                    _add_windows(image, first, right, channels, plane, rows, columns, width, parameters, start, sums,
                                 to)  # fmt: skip
                elif lanes == NARROW:
                    _add_narrow_window(image, first, right, channels, plane, rows, columns, width, parameters, start,
                                       sums, to)  # fmt: skip
                else:
                    _add_window(image, first, right, channels, plane, rows, columns, width, parameters, start, sums,
                                to)  # fmt: skip
                out_x += TOGETHER if several else 1


@compiled
def convolve(own: Any, parameters: Any, listed: Any, sizes: Any, image: Any, sums: Any) -> None:
    """sums (`sums_size`) += W ∗ what a train holds.

    Args:
        listed: the train's number of spikes, then the neurons; sizes: what they sent.
        image: scratch (`image_size`).
    """
    if listed[0] * DENSE_FROM > own[INPUTS]:
        _draw(own, listed, sizes, image)
        _slide(own, parameters, image, sums)
    else:
        _spread(own, parameters, listed, sizes, sums)


@compiled
def add_channels(own: Any, sums: Any, z: Any) -> None:
    """z (channels·height·width) += the sums, put in the neurons' order."""
    positions, lanes = own[OUT_HEIGHT] * own[OUT_WIDTH], own[LANES]
    for channel in range(own[OUT_CHANNELS]):
        start = channel // lanes * positions * lanes + channel % lanes
        for position in range(positions):
            z[channel * positions + position] += sums[start + position * lanes]


@compiled
def size_of_sums(own: Any) -> int:
    """`sums_size`, from the plan."""
    lanes = own[LANES]
    return (own[OUT_CHANNELS] + lanes - 1) // lanes * lanes * own[OUT_HEIGHT] * own[OUT_WIDTH]


@compiled
def propagate_layer(
    own: Any, parameters: Any, indices: Any, sizes: Any, totals: Any, stop: int, step: int, work: Any
) -> None:
    """totals[n] += W·(what train n holds), for n = 0, step, … below `stop`; two last rows of `work` are scratch."""
    if own[CONVOLUTION] == 0:
        propagate(parameters, own[WEIGHTS], own[INPUTS], own[OUTPUTS], indices, sizes, totals, stop, step)
        return
    sums = work[-1, : size_of_sums(own)]
    for n in range(0, stop, step):
        sums[:] = np.float32(0)
        convolve(own, parameters, indices[n], sizes[n], work[-2], sums)
        add_channels(own, sums, totals[n])


@compiled
def synapses(own: Any, parameters: Any, listed: Any) -> Any:
    """The synapses of the neurons in a convolution's list."""
    reached, fan_out = 0, own[FAN_OUT]
    for i in range(listed[0]):
        reached += np.int64(parameters[fan_out + listed[1 + i]])
    return reached
