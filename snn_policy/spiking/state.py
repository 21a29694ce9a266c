"""What networks carry from one decision to the next: named arrays, first axis = environment row, zeros at a reset."""

from typing import NamedTuple

from snn_policy.protocol import Array


class MembraneState(NamedTuple):
    """Hold what IF, SNM and MT networks carry between decisions, (rows, neurons of all hidden layers) float32.

    residual: CRPI's r, layer after layer.
    """

    residual: Array


class AdaptiveState(NamedTuple):
    """Extend `MembraneState` for a network whose spike calibration is adaptive.

    extra_iterations: (rows, 1) I − I_min.
    """

    residual: Array
    extra_iterations: Array


class SigmaDeltaState(NamedTuple):
    """Hold what sigma-delta networks carry between decisions, float32.

    memory: (rows, neurons of all stages) m: the receivers' reconstruction of each neuron's value: what it has sent.
    accumulator: (rows, outputs of all layers) W·(γ·m): what the receivers have accumulated.
    age: (rows, 1) decisions since the accumulators were last derived from the memory.
    """

    memory: Array
    accumulator: Array
    age: Array


class CarryingState(NamedTuple):
    """Extend `SigmaDeltaState` for a network whose neurons carry a share α > 0 of their residual.

    residual: (rows, neurons of all stages) r: what a neuron owed in the last decision and did not send.
    """

    memory: Array
    accumulator: Array
    age: Array
    residual: Array


class RecurrentState(NamedTuple):
    """Extend `SigmaDeltaState` for a recurrent network, float32.

    residual: as in `CarryingState`; (rows, 0) where nothing is carried.
    cell: (rows, memories of all cells) what the cells remember, less what they start from.
    """

    memory: Array
    accumulator: Array
    age: Array
    residual: Array
    cell: Array


DERIVED = ("accumulator", "age")
"""Fields that follow from the others: exported programs derive them in every decision."""

SigmaDeltaStates = SigmaDeltaState | CarryingState | RecurrentState
State = MembraneState | AdaptiveState | SigmaDeltaStates
