"""The event-driven engine: lays a network out in flat blocks and runs the compiled decisions on them.

Cost grows with the number of spikes, not with T × width². Compiled once per machine (numba's cache).
`EventEngine.decide` is pure and may be called from several threads; an `EventSession` acts in a control loop,
on buffers that stay in place.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.engines import event_plan as compiled
from snn_policy.engines.event_layout import Layout
from snn_policy.engines.event_program import decide
from snn_policy.engines.spike_lists import aligned
from snn_policy.network import SpikingNetwork
from snn_policy.neurons import SigmaDeltaNeurons
from snn_policy.protocol import Counters, Decision, FloatArray, Mask
from snn_policy.state import State

REDERIVE_AFTER = 16
"""Decisions after which the sigma-delta accumulators of a row are derived anew, to bound their rounding: after 512, a
spike in 10⁵ falls on the other side of its threshold, and the memory keeps that difference."""

TRAINS = 64
"""Spike trains that are worked through together (see `spike_lists`): the rows of a block times its trains per row. By
`examples/measure_trains.py` (256 rows, 256×256 neurons), 64 and 128 take 0.85 (sigma-delta), 0.86 (IF, T = 8) and 0.91
(T = 16) of the time of one row after another."""

LARGEST_BLOCK = 2**18
"""Floats of a block's trains, at most: a megabyte, which stays in a core's cache (a train of pictures has 250 kB)."""


class EventEngine:
    """Runs decisions of a network block of rows by block of rows, adding only the weights of neurons that spiked."""

    def __init__(self, network: SpikingNetwork, rederive_after: int = REDERIVE_AFTER, trains: int = TRAINS) -> None:
        self.network = network
        layout = Layout(network, rederive_after)
        self.parameters, self.plan = layout.blocks()
        self.row_state, self.row_size = layout.row_state, int(self.plan[0, compiled.ROW_SIZE])
        self.trains_per_row = 2 if isinstance(network.neurons, SigmaDeltaNeurons) else network.neurons.timesteps
        most = min(trains, LARGEST_BLOCK // self.row_size, self.row_size)  # kernels note a number per row in one row
        self.block = max(1, most // self.trains_per_row)
        self.spiking = len(network.spiking_widths)

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
        heard: views of the memory that is no part of `state`: what convolutions have heard, and, in the last column,
            whether that has to be derived anew from `state`.
        counters: views of the sums since each row's reset.
    """

    def __init__(self, engine: EventEngine, rows: int) -> None:
        network, spiking, actor = engine.network, engine.spiking, engine.network.actor
        width, block = engine.row_size, min(rows, engine.block)
        trains = block * engine.trains_per_row
        self.rows, self._discrete, self._action_shape = rows, actor.discrete, actor.action_shape
        self.obs = np.zeros((rows, actor.layers[0].inputs))
        self._batch_obs = self.obs.reshape(rows, *actor.observation_shape)
        self._single_obs, self._single_shape = self._batch_obs[0], actor.observation_shape
        self._actions = np.zeros((rows, len(actor.head.choices) or actor.head.outputs), np.float32)
        self._memory = np.zeros((rows, engine.row_state), np.float32)
        self._counts = np.zeros((rows, 2 * spiking + compiled.SUMS + 2), np.int64)
        self._spiking, self._decided = spiking, False
        self._blocks = (self.obs, self._memory, engine.parameters, engine.plan,
                        aligned((compiled.WORK_ROWS + 2 * block + 2 * trains) * width),
                        aligned(trains * width, np.int32).reshape(trains, width), self._actions, self._counts,
                        block)  # fmt: skip
        *views, self.heard = self._views(network.initial_state(1))
        self.state: State = type(network.initial_state(1))(*views)
        sums = spiking + compiled.SUMS
        self.counters = Counters(self._counts[:, spiking + compiled.DECISIONS], self._counts[:, sums : sums + spiking],
                                 self._counts[:, sums + spiking], self._counts[:, sums + spiking + 1])  # fmt: skip

    def _views(self, kind: State) -> list[npt.NDArray[Any]]:
        return np.split(self._memory, np.cumsum([each.shape[1] for each in kind]), axis=1)

    def store(self, state: State) -> None:
        """Set the memory of all rows. A row that is given what it holds already goes on as if nothing had happened,
        and one that is given zeros as if it were new."""
        if self.heard.size:
            pairs = list(zip(self.state, state, strict=True))
            changed = np.any([(own != given).any(axis=1) for own, given in pairs], axis=0)
            self.heard[changed] = 0
            self.heard[changed, -1] = np.any([given[changed].any(axis=1) for _, given in pairs], axis=0)
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
        """The last actions, (rows, *action_shape), floats or integers; without the first axis for one observation."""
        actions = self._actions.astype(np.int64 if self._discrete else np.float32)
        actions = actions.reshape(self.rows, *self._action_shape)
        return actions if obs.shape == self._batch_obs.shape else actions[0]

    def decision(self) -> Decision | None:
        """What the last decision cost, if there was one."""
        if not self._decided:
            return None
        spiking = self._spiking
        counts = self._counts[:, : spiking + compiled.DECISIONS].copy()
        columns = (compiled.OPERATIONS, compiled.MACS_COUNT, compiled.ITERATIONS, compiled.ERRORS)
        return Decision(counts[:, :spiking], *(counts[:, spiking + column] for column in columns))
