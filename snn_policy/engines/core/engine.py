"""The event-driven engine: runs the compiled core on a network's program, block of rows by block of rows.

Cost grows with the number of spikes, not with T × width². `EventEngine.decide` is pure and may be called from several
threads; an `EventSession` acts in a control loop, on buffers that stay in place.
"""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.engines.core import records
from snn_policy.engines.core.buffers import aligned, count_size
from snn_policy.engines.core.layout import Layout, Writer
from snn_policy.engines.core.library import Call, Core, NoCoreError, Program, core
from snn_policy.protocol import Array, Counters, Decision, FloatArray, IntArray, Mask
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.state import State

REDERIVE_AFTER = 16
"""Decisions after which the sigma-delta accumulators of a row are derived anew, to bound their rounding: after 512, a
spike in 10⁵ falls on the other side of its threshold, and the memory keeps that difference."""

TRAINS = 64
"""Spike trains that are worked through together: the rows of a block times its trains per row."""

LARGEST_BLOCK = 2**18
"""Floats of a block's trains, at most: a megabyte, which stays in a core's cache (a train of pictures has 250 kB)."""

_ARRAY, _FLOAT32, _FLOAT64 = np.ndarray, np.dtype(np.float32), np.dtype(np.float64)


class EventEngine:
    """Run decisions of a network block of rows by block of rows, adding only the weights of neurons that spiked.

    Raises:
        NoCoreError: there is no compiled core.
        ValueError: the network does not fit the core's program.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        rederive_after: int = REDERIVE_AFTER,
        trains: int = TRAINS,
        compiled: Core | None = None,
    ) -> None:
        self.network = network
        self.core = core() if compiled is None else compiled
        self.layout = Writer(network, rederive_after).layout()
        self.program = checked(self.core, self.layout)
        self.row_size = int(self.layout.header["row_size"][0])
        self.state_size = int(self.layout.header["state_size"][0])
        slots = int(self.layout.header["slots"][0])
        self.trains_per_row = 2 * slots if isinstance(network.neurons, SigmaDeltaNeurons) else network.neurons.timesteps
        most = min(trains, LARGEST_BLOCK // self.row_size, self.row_size)  # the core notes a number per row in a vector
        self.block = max(1, most // self.trains_per_row)
        self.spiking = len(network.spiking_widths)

    def session(self, rows: int) -> "EventSession":
        """Return buffers for that many environment rows, all at zero."""
        sole = rows == 1 and not self.network.actor.discrete
        return SoleEventSession(self, rows) if sole else EventSession(self, rows)

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """Decide as `SpikingNetwork.decide`."""
        session = EventSession(self, len(obs))
        session.store(state)
        session.obs[...] = obs.reshape(len(obs), -1)
        if not session.run():
            raise ValueError("observation: not finite, or too large")
        decision = session.decision()
        assert decision is not None
        return session.actions_like(obs), session.state, decision


def checked(compiled: Core, blocks: Layout) -> Program:
    """Return the program of these blocks, which must outlive it.

    Raises:
        ValueError: they do not fit together.
    """
    parts = (blocks.header, blocks.stages, blocks.connections, blocks.parameters, blocks.indices)
    program = Program(*(part.ctypes.data for part in parts))
    fault = compiled.check(ctypes.addressof(program), *map(len, parts[1:]))
    if fault:
        raise ValueError(f"the network does not fit the compiled core (fault {fault}): take engine 'numpy'")
    return program


class EventSession:
    """Hold the memory of some environment rows, and all buffers of their decisions.

    Attributes:
        obs: (rows, inputs) float64, to be filled before `run`.
        state: views of the memory that `run` updates.
        accumulated: views of the memory that is no part of `state`: what convolutions have received, and, in the last
            column, whether that has to be derived anew from `state`.
        memory: all of it, one array.
        counters: views of the sums since each row's reset.
        events: (rows, spiking stages) neurons that sent something in the last decision, each counted once.
    """

    def __init__(self, engine: EventEngine, rows: int) -> None:
        network, spiking, actor = engine.network, engine.spiking, engine.network.actor
        block = min(rows, engine.block)
        self.rows, self._discrete = rows, actor.discrete
        self.obs = aligned(rows * actor.graph.inputs, np.float64).reshape(rows, -1)
        self._batch_obs = self.obs.reshape(rows, *actor.observation_shape)
        self._single_obs, self._single_shape = self._batch_obs[0], actor.observation_shape
        action_size = len(actor.head.choices) or actor.head.outputs
        self._actions = aligned(rows * action_size).reshape(rows, action_size)
        self._batch_actions = self._actions.reshape(rows, *actor.action_shape)
        self._memory = aligned(rows * engine.state_size).reshape(rows, engine.state_size)
        self._counts = aligned(rows * count_size(spiking), np.int64).reshape(rows, -1)
        self.memory = (self._memory,)
        self._spiking, self._decided = spiking, False
        sizes = (ctypes.c_int64 * 2)()
        engine.core.scratch(engine.program.header, block, ctypes.byref(sizes), ctypes.byref(sizes, 8))
        self._buffers = (self.obs, self._memory, self._actions, self._counts, aligned(sizes[0]),
                         aligned(sizes[1], np.int32))  # fmt: skip
        self._engine = engine  # its program is read in every decision
        self._call = Call(engine.program, *(buffer.ctypes.data for buffer in self._buffers), rows, block)
        self._core_run, self._address = engine.core.run, ctypes.addressof(self._call)
        *views, self.accumulated = self._views(network.initial_state(1))
        self.state: State = type(network.initial_state(1))(*views)
        self.events = self._counts[:, spiking : 2 * spiking]
        decisions = self._counts[:, 2 * spiking + records.DECISIONS]
        sums = self._counts[:, 2 * spiking + records.SUMS :]
        self.counters = Counters(*_records(sums[:, :spiking], sums[:, spiking:]), decisions=decisions)

    def _views(self, kind: State) -> list[npt.NDArray[Any]]:
        return np.split(self._memory, np.cumsum([array.shape[1] for array in kind]), axis=1)

    def store(self, state: State) -> None:
        """Set the memory of all rows. A row that is given what it holds already goes on as if nothing had happened,
        and one that is given zeros as if it were new."""
        if self.accumulated.size:
            pairs = list(zip(self.state, state, strict=True))
            changed = np.any([(own != given).any(axis=1) for own, given in pairs], axis=0)
            self.accumulated[changed] = 0
            self.accumulated[changed, -1] = np.any([given[changed].any(axis=1) for _, given in pairs], axis=0)
        for own, given in zip(self.state, state, strict=True):
            own[...] = given

    def restore(self, memory: tuple[npt.NDArray[Any], ...]) -> None:
        """See `Session.restore`."""
        (self._memory[...],) = memory

    def act(self, obs: Array) -> npt.NDArray[Any] | None:
        """Do `accept`, `run` and `actions_like` in one; None where one of them would have refused."""
        return self.actions_like(obs) if self.accept(obs) and self.run() else None

    def accept(self, obs: Array) -> bool:
        """Copy the observation(s) into `obs`; False where they are not an array that fits as it is."""
        if type(obs) is not np.ndarray or obs.dtype.kind not in "fiub":
            return False
        if self.rows == 1 and obs.shape == self._single_shape:
            self._single_obs[...] = obs
            return True
        if obs.shape == self._batch_obs.shape:
            self._batch_obs[...] = obs
            return True
        return False

    def run(self, running: Mask | None = None) -> bool:
        """Make one decision of every row (or of those in the mask) from `obs`; False, with nothing touched, where
        it is not finite. Rows that are not running keep their memory and their sums.
        """
        if running is None:
            decided = self._core_run(self._address) == 1
            self._decided |= decided
            return decided
        resting, sums = ~running, 2 * self._spiking + records.DECISIONS
        memory, counts = self._memory[resting], self._counts[resting, sums:]
        decided = self._core_run(self._address) == 1
        self._memory[resting], self._counts[resting, sums:] = memory, counts
        self._decided |= decided
        return decided

    def actions_like(self, obs: Array) -> npt.NDArray[Any]:
        """Return the last actions, (rows, *action_shape), floats or integers; without rows for one observation."""
        actions = self._batch_actions.astype(np.int64) if self._discrete else self._batch_actions.copy()
        return actions if obs.shape == self._batch_obs.shape else actions[0]

    def decision(self) -> Decision | None:
        """Return what the last decision cost, if there was one."""
        if not self._decided:
            return None
        costs = 2 * self._spiking
        counts = self._counts[:, : costs + records.DECISIONS].copy()
        return Decision(*_records(counts[:, : self._spiking], counts[:, costs:]))


class SoleEventSession(EventSession):
    """Act for a single environment with float actions, a control loop: `act` is spelled out for speed."""

    def __init__(self, engine: EventEngine, rows: int) -> None:
        super().__init__(engine, rows)
        self._action = self._batch_actions[0]

    def act(self, obs: Array) -> npt.NDArray[Any] | None:
        if type(obs) is _ARRAY and obs.shape == self._single_shape:
            dtype = obs.dtype
            if dtype is _FLOAT64 or dtype is _FLOAT32:  # NumPy has one object of each, and comparing it costs nothing
                self._single_obs[...] = obs
                if self._core_run(self._address) == 1:
                    self._decided = True
                    return self._action.copy()
                return None
        return super().act(obs)


def _records(spikes: IntArray, costs: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]:
    """Return the fields of `Costs`, of spikes (rows, stages) and of costs in the core's order, (rows, kinds)."""
    order = (records.OPERATIONS, records.MACS, records.ITERATIONS, records.ERRORS, records.EVENTS)
    operations, macs, iterations, errors, events = (costs[:, column] for column in order)
    return spikes, operations, macs, iterations, errors, events


__all__ = ["EventEngine", "EventSession", "NoCoreError", "SoleEventSession"]
