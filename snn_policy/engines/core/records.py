"""The core's records as NumPy sees them: fields of header, stages and connections, and what their numbers stand for.

`program.h` says what every field means; tests/test_core_program.py holds the two lists of fields together.
"""

from typing import Any

import numpy as np

from snn_policy.ann.cells import Elementwise, Gru, Lstm, Product

NEURONS = ("sigma-delta", "if", "snm", "mt")
ACTIVATIONS = ("relu", "tanh", "elu", "silu", "leaky_relu", "qcfs", "softplus", "softsign", "mish", "gelu",
               "gelu_tanh", "clip", "log_softplus", "hardswish", None)  # fmt: skip
HEADS = ("tanh", "clip", "argmax")
CELLS = (Elementwise, Product, Gru, Lstm)
NORMS = (None, "layer", "rms", "l2")
LINEAR, CONV2D, SPARSE, SELECT = range(4)
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
    "width first_connection connection_count cell z_width second bias activation other_activation norm norm_weight "
    "remembered cell_start neurons offset digits slot memory residual fan_out uniform_fan_out levels",
    "parameter activation_levels alpha other_parameter other_levels epsilon",
)
CONNECTION = _record(
    "kind source inputs outputs weights stride accumulator into delayed channels height width kernel_height "
    "kernel_width down right above beside out_channels out_height out_width in_order block starts columns"
)
