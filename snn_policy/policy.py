"""SpikingPolicy: the stateful shell around the pure core, and the only place that holds membranes.

policy.reset()
action = policy.act(obs)          # (*observation_shape) → (act_dim,) · (N, *observation_shape) → (N, act_dim)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.engines import make_engine
from snn_policy.network import SpikingNetwork
from snn_policy.protocol import Decision, FloatArray, Mask, as_mask
from snn_policy.state import State
from snn_policy.stateful import StatefulPolicy, copied

if TYPE_CHECKING:
    from snn_policy.engines.core.engine import EventSession
    from snn_policy.export import Exported
    from snn_policy.exporting.c_source import ExportedC


class SpikingPolicy(StatefulPolicy):
    """A spiking network that acts: see `StatefulPolicy` for `reset`, `act`, `predict`, `step` and `state`.

    Attributes:
        network: the spiking network.
        conversion: how it was made and what was measured then (plain JSON data).
        card: what its maker says of it (plain JSON data): environment, training, returns.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        *,
        engine: str = "auto",
        conversion: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.engine = network, engine
        self.conversion, self.card = dict(conversion or {}), dict(card or {})
        self._engine = make_engine(network, engine)
        self._session: EventSession | None = None

    def __repr__(self) -> str:
        return f"SpikingPolicy({self.actor.name}, {self.conversion.get('neuron')}, timesteps={self.timesteps})"

    @property
    def actor(self) -> Actor:
        """The ANN it was converted from."""
        return self.network.actor

    @property
    def observation_shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.actor.observation_shape

    @property
    def action_shape(self) -> tuple[int, ...]:
        return self.actor.action_shape

    @property
    def discrete(self) -> bool:
        return self.actor.discrete

    @property
    def low(self) -> npt.NDArray[Any]:
        return self.actor.low

    @property
    def high(self) -> npt.NDArray[Any]:
        return self.actor.high

    @property
    def timesteps(self) -> int:
        return self.network.neurons.timesteps

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.network.layer_names

    def initial_state(self, n: int) -> State:
        return self.network.initial_state(n)

    def _decide(self, batch: FloatArray, state: State) -> tuple[npt.NDArray[Any], State, Decision]:
        return self._engine.decide(batch, state)

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        session = self._session
        if session is not None and session.accept(obs):
            running = None if active is None else as_mask(active, session.rows, "active")
            if session.run(None if running is None or running.all() else running):
                self._size_is_open, self._last_decision = False, None
                return session.actions_like(obs)
        return super().act(obs, active=active)

    act.__doc__ = StatefulPolicy.act.__doc__

    def _act_on(self, batch: FloatArray, running: Mask | None) -> npt.NDArray[Any]:
        session = self._session
        if session is None or not (session.accept(batch) and session.run(running)):
            return super()._act_on(batch, running)
        self._size_is_open, self._last_decision = False, None
        return session.actions_like(batch)

    @property
    def last_decision(self) -> Decision | None:
        """What the last decision cost; None before the first one and after a reset of all rows."""
        if self._last_decision is None and self._session is not None:
            self._last_decision = self._session.decision()
        return self._last_decision

    def _start(self, rows: int, size_is_open: bool) -> None:
        super()._start(rows, size_is_open)
        self._session = self._engine.session(rows)
        if self._session is not None:
            self._state, self.counters = self._session.state, self._session.counters

    def _store(self, state: State) -> None:
        if self._session is None:
            super()._store(state)
        else:
            self._session.store(state)
            self._size_is_open = False

    def warm_up(self) -> None:
        """Do what a first decision has to do once, such as loading the compiled core; changes nothing else.

        `convert` and `load` call it, so that a control loop never waits for it.
        """
        self._decide(np.zeros((1, *self.observation_shape), np.float32), self.initial_state(1))

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: they go on from the same memory, on buffers of their own."""
        return {
            "made_of": (self.network, self.engine, self.conversion, self.card),
            "state": None if self._state is None else copied(self._state),
            "heard": None if self._session is None else self._session.heard.copy(),
            "counters": self.counters.copy(),
            "rest": (self._size_is_open, self.last_decision, self._unconfirmed),
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        network, engine, conversion, card = saved["made_of"]
        self.__init__(network, engine=engine, conversion=conversion, card=card)
        if saved["state"] is not None:
            self._start(len(saved["state"][0]), size_is_open=False)
            self._store(saved["state"])
            if self._session is not None:
                self._session.heard[...] = saved["heard"]
            self.counters.restore(saved["counters"])
        self._size_is_open, self._last_decision, self._unconfirmed = saved["rest"]

    def save(self, directory: str | Path) -> None:
        """Write `policy.json` and `weights.safetensors` into the directory (made if missing)."""
        from snn_policy.bundle import write_bundle

        write_bundle(Path(directory), self.network, self.conversion, self.card)

    def export_onnx(self, directory: str | Path, **options: Any) -> "Exported":
        """Write the policy as ONNX graphs, with its bundle; arguments as for `snn_policy.export.export_policy`."""
        from snn_policy.export import export_policy

        return export_policy(self, directory, **options)

    def export_c(self, directory: str | Path, **options: Any) -> "ExportedC":
        """Write the policy as C99; arguments as for `snn_policy.exporting.c_source.export_c`."""
        from snn_policy.exporting.c_source import export_c

        return export_c(self, directory, **options)

    @classmethod
    def load(cls, directory: str | Path, *, engine: str = "auto") -> "SpikingPolicy":
        """Read what `save` wrote; nothing in the files is ever executed.

        Raises:
            FileNotFoundError: no such directory, or a file of it is missing.
            SourceError: truncated, tampered with, or not a spiking policy.
        """
        from snn_policy.bundle import read_bundle

        bundle = read_bundle(Path(directory))
        policy = cls(bundle.network, engine=engine, conversion=bundle.conversion, card=bundle.card)
        policy.warm_up()
        return policy
