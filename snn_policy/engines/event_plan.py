"""What the compiled decisions work on, and what all of them begin and end with.

Handing over an array costs a call about as much as ten rows of weights do, so everything comes in few
blocks: `parameters` (every float of the network; weights in tiles, see `spike_lists`), `plan` (int64: a header row,
then a row per layer with sizes and offsets into the other blocks), `state` (rows, everything a row carries), `counts`
(rows, what the decision cost and the sums since the row's reset), `scratch` (float32 rows of `row_size`) and `indices`
(trains, row size). `event_layout` lays the network out. Rows are decided in blocks, layer by layer: what the rows of a
block send goes through a tile of weights together. A row's result never depends on its batch.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.compilation import kernel as compiled

# plan[0]: the network
HEADER = ("layers", "sigma_delta", "model", "differential", "timesteps", "levels", "bounded", "head_kind",
          "rederive_after", "normaliser", "head", "powers", "power_count", "doubling", "age", "spiking", "macs",
          "row_size", "calibrates", "simulation_steps", "literal", "least_iterations", "most_iterations", "adaptive",
          "error_tolerance", "stale")  # fmt: skip
(LAYERS, SIGMA_DELTA, MODEL, DIFFERENTIAL, TIMESTEPS, LEVELS, BOUNDED, HEAD_KIND, REDERIVE_AFTER, NORMALISER, HEAD,
 POWERS, POWER_COUNT, DOUBLING, AGE, SPIKING, MACS, ROW_SIZE, CALIBRATES, SIMULATION_STEPS, LITERAL, LEAST_ITERATIONS,
 MOST_ITERATIONS, ADAPTIVE, ERROR_TOLERANCE, STALE) = range(len(HEADER))  # fmt: skip
# plan[1 + layer]: a layer; offsets into `parameters`, MEMORY and ACCUMULATOR into a row of `state`;
# `event_convolution` has the columns that follow
LAYER = ("inputs", "outputs", "weights", "bias", "neurons", "digits", "activation", "slope", "memory", "accumulator",
         "alpha", "levels")  # fmt: skip
(INPUTS, OUTPUTS, WEIGHTS, BIAS, NEURONS, DIGITS, ACTIVATION, SLOPE, MEMORY, ACCUMULATOR,
 ALPHA, QUANTISED_LEVELS) = range(len(LAYER))  # fmt: skip
# parameters[:5]
CLIP, PRE_CLIP, START_SHARE, BOUND, EPSILON = range(5)
# a row of counts: spikes per spiking layer, then these, then the number of decisions and the sums of spikes,
# synaptic operations and MACs since the row's reset
OPERATIONS, MACS_COUNT, ITERATIONS, ERRORS, DECISIONS, SUMS = range(6)
HEAD_TANH, HEAD_CLIP, HEAD_ARGMAX = range(3)
WORK_ROWS = 12
"""Rows of scratch for one neuron vector each."""


@compiled
def matrix(block: Any, start: int, rows: int, columns: int) -> Any:
    return block[start : start + rows * columns].reshape(rows, columns)


@compiled
def normalise(obs: Any, normaliser: Any, clip: Any, x: Any) -> None:
    """`normaliser`: (2, inputs) mean and scale."""
    for j in range(x.shape[0]):
        x[j] = min(max((np.float32(obs[j]) - normaliser[0, j]) / normaliser[1, j], -clip), clip)


@compiled
def apply_head(y: Any, kind: int, head: Any, pre_clip: Any, action: Any) -> None:
    """`head`: (4, outputs) low, high, scale, offset; for argmax first the discrete action that an entry belongs to."""
    if kind == HEAD_ARGMAX:
        start, best, number = 0, 0, 0
        for k in range(y.shape[0]):
            if head[0, k] > number:
                start, best, number = k, k, number + 1
            if y[k] > y[best]:
                best = k
            action[number] = np.float32(best - start)
        return
    for k in range(y.shape[0]):
        value = y[k]
        if kind == HEAD_TANH:
            value = np.float32(math.tanh(min(max(value, -pre_clip), pre_clip))) * head[2, k] + head[3, k]
        action[k] = min(max(value, head[0, k]), head[1, k])


@compiled
def act(y: Any, parameters: Any, plan: Any, actions: Any) -> None:
    """The heads of all rows: y (rows, ≥ outputs) → actions (rows, action size)."""
    outputs = plan[plan[0, LAYERS], OUTPUTS]
    head = matrix(parameters, plan[0, HEAD], 4, outputs)
    for row in range(actions.shape[0]):
        apply_head(y[row, :outputs], plan[0, HEAD_KIND], head, parameters[PRE_CLIP], actions[row])
