"""The event-driven engine: lays a network out in flat blocks and runs the compiled decisions on them.

Cost grows with the number of spikes, not with T × width². Compiled once per machine (numba's cache).
`EventEngine.decide` is pure and may be called from several threads; an `EventSession` acts in a control loop,
on buffers that stay in place.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.engines import event_decisions as compiled
from snn_policy.engines import event_kernels as kernels
from snn_policy.engines.event_program import decide
from snn_policy.layers import Layer
from snn_policy.network import SpikingNetwork
from snn_policy.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.protocol import Counters, Decision, FloatArray, Mask
from snn_policy.state import State

REDERIVE_AFTER = 16
"""Decisions after which the sigma-delta accumulators of a row are derived anew, to bound their rounding: after 512, a
spike in 10⁵ falls on the other side of its threshold, and the memory keeps that difference."""

ACTIVATIONS = {"relu": kernels.RELU, "tanh": kernels.TANH, "elu": kernels.ELU, "silu": kernels.SILU,
               "leaky_relu": kernels.LEAKY_RELU, "qcfs": kernels.QCFS}  # fmt: skip
HEADS = {"tanh": compiled.HEAD_TANH, "clip": compiled.HEAD_CLIP, "argmax": compiled.HEAD_ARGMAX}
MODELS = {"if": kernels.IF, "snm": kernels.SNM, "mt": kernels.MT}


class EventEngine:
    """Runs decisions of a network row by row, adding only the weights of neurons that spiked."""

    def __init__(self, network: SpikingNetwork, rederive_after: int = REDERIVE_AFTER) -> None:
        self.network = network
        self.parameters, self.plan = _Layout(network, rederive_after).blocks()
        self.spiking = len(network.spiking_widths)
        self.state_size = sum(each.shape[1] for each in network.initial_state(1))

    def session(self, rows: int) -> "EventSession":
        """Buffers for that many environment rows, all at zero."""
        return EventSession(self, rows)

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """As `SpikingNetwork.decide`."""
        session = EventSession(self, len(obs))
        session.store(state)
        session.obs[...] = obs.reshape(len(obs), -1)
        if not session.run():
            raise ValueError("observation: not finite, or too large")
        decision = session.decision()
        assert decision is not None
        return session.actions_like(obs), session.state, decision


class EventSession:
    """The memory of some environment rows, and all buffers of their decisions.

    Attributes:
        obs: (rows, inputs) float64, to be filled before `run`.
        state: views of the memory that `run` updates.
        counters: views of the sums since each row's reset.
    """

    def __init__(self, engine: EventEngine, rows: int) -> None:
        network, spiking = engine.network, engine.spiking
        actor, timesteps = network.actor, network.neurons.timesteps
        widest = max(max(layer.inputs, layer.outputs) for layer in actor.layers) + 1
        trains = 0 if isinstance(network.neurons, SigmaDeltaNeurons) else 2 * timesteps * widest
        self.rows, self._discrete = rows, actor.discrete
        self.obs = np.zeros((rows, actor.layers[0].inputs))
        self._batch_obs = self.obs.reshape(rows, *actor.observation_shape)
        self._single_obs, self._single_shape = self._batch_obs[0], actor.observation_shape
        self._actions = np.zeros((rows, 1 if actor.discrete else actor.head.outputs), np.float32)
        self._memory = np.zeros((rows, engine.state_size), np.float32)
        self._counts = np.zeros((rows, 2 * spiking + compiled.SUMS + 2), np.int64)
        self._spiking, self._decided = spiking, False
        self._blocks = (self.obs, self._memory, engine.parameters, engine.plan,
                        np.zeros(compiled.WORK_ROWS * widest + trains, np.float32), np.zeros(widest, np.int64),
                        self._actions, self._counts)  # fmt: skip
        self.state = self._views(network.initial_state(1))
        sums = spiking + compiled.SUMS
        self.counters = Counters(self._counts[:, spiking + compiled.DECISIONS], self._counts[:, sums : sums + spiking],
                                 self._counts[:, sums + spiking], self._counts[:, sums + spiking + 1])  # fmt: skip

    def _views(self, kind: State) -> State:
        ends = np.cumsum([each.shape[1] for each in kind])
        return type(kind)(*np.split(self._memory, ends[:-1], axis=1))

    def store(self, state: State) -> None:
        """Set the memory of all rows."""
        for own, given in zip(self.state, state, strict=True):
            own[...] = given

    def accept(self, obs: Any) -> bool:
        """Copy the observation(s) into `obs`; False where they are not an array that fits as it is."""
        if type(obs) is not np.ndarray or obs.dtype.kind not in "fiub":
            return False
        if obs.shape == self._batch_obs.shape:
            self._batch_obs[...] = obs
            return True
        if self.rows == 1 and obs.shape == self._single_shape:
            self._single_obs[...] = obs
            return True
        return False

    def run(self, running: Mask | None = None) -> bool:
        """One decision of every row (or of those in the mask) from `obs`; False, with nothing touched, where
        it is not finite. Rows that are not running keep their memory and their sums.
        """
        if running is None:
            decided = decide(*self._blocks)
            self._decided |= decided
            return decided
        resting, sums = ~running, self._spiking + compiled.DECISIONS
        memory, counts = self._memory[resting], self._counts[resting, sums:]
        decided = decide(*self._blocks)
        self._memory[resting], self._counts[resting, sums:] = memory, counts
        self._decided |= decided
        return decided

    def actions_like(self, obs: Any) -> npt.NDArray[Any]:
        """The last actions, (rows, act_dim) or integers (rows,); without the first axis for one observation."""
        actions = self._actions[:, 0].astype(np.int64) if self._discrete else self._actions.copy()
        return actions if obs.shape == self._batch_obs.shape else actions[0]

    def decision(self) -> Decision | None:
        """What the last decision cost, if there was one."""
        if not self._decided:
            return None
        spiking = self._spiking
        counts = self._counts[:, : spiking + compiled.DECISIONS].copy()
        columns = (compiled.OPERATIONS, compiled.MACS_COUNT, compiled.ITERATIONS, compiled.ERRORS)
        return Decision(counts[:, :spiking], *(counts[:, spiking + column] for column in columns))


class _Layout:
    """Lays a network out in the blocks that `event_decisions` describes."""

    def __init__(self, network: SpikingNetwork, rederive_after: int) -> None:
        self._actor, self._neurons = network.actor, network.neurons
        self._parts: list[FloatArray] = []
        self._size = 0
        self._plan = np.zeros((1 + len(self._actor.layers), max(len(compiled.HEADER), len(compiled.LAYER))), np.int64)
        self._put_scalars()
        self._describe_network(rederive_after, len(network.spiking_widths))
        self._describe_layers()

    def blocks(self) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """`parameters` and `plan`."""
        return np.concatenate(self._parts), self._plan

    def _put(self, values: npt.ArrayLike) -> int:
        """Append to the parameters; returns the offset."""
        start = self._size
        self._parts.append(np.asarray(values, np.float32).ravel())
        self._size += self._parts[-1].size
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
        bounds = np.zeros((2, head.outputs)) if head.discrete else np.stack([head.low, head.high])
        described = {
            "layers": len(actor.layers),
            "timesteps": neurons.timesteps,
            "head_kind": HEADS[head.kind],
            "normaliser": self._put([*mean, *scale]),
            "head": self._put([*bounds.ravel(), *head.scale, *head.offset]),
            "spiking": spiking,
            "widest": max(max(layer.inputs, layer.outputs) for layer in actor.layers),
        }
        if isinstance(neurons, SigmaDeltaNeurons):
            described |= {"sigma_delta": 1, "rederive_after": rederive_after,
                          "powers": self._put(neurons.powers), "power_count": len(neurons.powers),
                          "age": sum(layer.inputs + layer.outputs for layer in actor.layers)}  # fmt: skip
        else:
            described |= {"model": MODELS[neurons.model], "differential": neurons.coding == "differential",
                          "levels": neurons.levels, "bounded": neurons.residual == "bounded",
                          "macs": inputs * actor.layers[0].outputs, "age": sum(actor.widths[1:]),
                          **_calibration_header(neurons)}  # fmt: skip
        self._plan[0, : len(compiled.HEADER)] = [described.get(name, 0) for name in compiled.HEADER]

    def _describe_layers(self) -> None:
        neurons, memory, accumulator = self._neurons, 0, sum(self._actor.widths)
        for index, layer in enumerate(self._actor.layers):
            activation = layer.activation
            described = {
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                "weights": self._put(layer.weight.T),
                "bias": self._put(_bias(layer, neurons, index)),
                "neurons": self._put(_neuron_vectors(neurons, index)),
                "digits": neurons.digits[index] if isinstance(neurons, SigmaDeltaNeurons) else 0,
                "activation": kernels.LINEAR if activation is None else ACTIVATIONS[activation.name],
                "slope": self._put([0, 0] if activation is None else [activation.parameter, activation.levels]),
                "memory": memory,
                "accumulator": accumulator,
                "alpha": self._put(_alpha(neurons, index)),
                "levels": activation.levels if activation and activation.levels else neurons.timesteps,
            }
            self._plan[1 + index, : len(compiled.LAYER)] = [described[name] for name in compiled.LAYER]
            memory += layer.inputs if isinstance(neurons, SigmaDeltaNeurons) else layer.outputs
            accumulator += layer.outputs


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
    if index or isinstance(neurons, MembraneNeurons):
        return layer.bias
    return (layer.bias + layer.weight.astype(np.float64) @ neurons.offset).astype(np.float32)


def _neuron_vectors(neurons: MembraneNeurons | SigmaDeltaNeurons, index: int) -> FloatArray:
    """Sigma-delta: quantum, quantum·k (infinite for a dead neuron), γ, offset of stage `index`; else θ, if any."""
    if isinstance(neurons, MembraneNeurons):
        return neurons.thresholds[index] if index < len(neurons.thresholds) else np.zeros(0, np.float32)
    quantum = neurons.quanta[index]
    reach = (1 + 1 / neurons.powers[1]) / 2
    unit = np.where(quantum > 0, quantum * reach, np.float32(np.inf)).astype(np.float32)
    offset = neurons.offset if index == 0 else np.zeros_like(quantum)
    return np.concatenate([quantum, unit, neurons.predictor[index], offset])
