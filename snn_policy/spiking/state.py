"""What networks carry from one decision to the next: named arrays, first axis = environment row, zeros at a reset."""

from typing import Any, NamedTuple


class MembraneState(NamedTuple):
    """What IF, SNM and MT networks carry between decisions, (rows, neurons of all hidden layers) float32.

    residual: CRPI's r, layer after layer.
    """

    residual: Any


class AdaptiveState(NamedTuple):
    """`MembraneState` of a network whose spike calibration is adaptive.

    extra_iterations: (rows, 1) I − I_min.
    """

    residual: Any
    extra_iterations: Any


class SigmaDeltaState(NamedTuple):
    """What sigma-delta networks carry between decisions, float32.

    memory: (rows, neurons of all stages) m: what each neuron has told its receivers.
    accumulator: (rows, outputs of all layers) W·(γ·m): what the receivers have heard and keep.
    age: (rows, 1) decisions since the accumulators were last derived from the memory.
    """

    memory: Any
    accumulator: Any
    age: Any


class CarryingState(NamedTuple):
    """`SigmaDeltaState` of a network whose neurons carry a share α > 0 of their residual.

    residual: (rows, neurons of all stages) r: what a neuron owed in the last decision and did not send.
    """

    memory: Any
    accumulator: Any
    age: Any
    residual: Any


State = MembraneState | AdaptiveState | SigmaDeltaState | CarryingState
