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
from snn_policy.checks import require
from snn_policy.engines import make_engine
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.state import State
from snn_policy.stateful import StatefulPolicy

if TYPE_CHECKING:
    from snn_policy.bundle import Bundle
    from snn_policy.exporting.c_source import ExportedC
    from snn_policy.exporting.export import Exported
    from snn_policy.exporting.nir_graph import ExportedNir
    from snn_policy.exporting.torchscript import ExportedTorchScript


class SpikingPolicy(StatefulPolicy):
    """Act with a spiking network: see `StatefulPolicy` for `reset`, `act`, `predict`, `step` and `state`.

    Attributes:
        network: the spiking network.
        conversion: how it was made and what was measured then (plain JSON data).
        card: what its maker says of it (plain JSON data): environment, training, returns.
        xz: whether the bundle that it was loaded from has compressed weights: it is saved and exported so again.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        *,
        engine: str = "auto",
        conversion: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
        xz: bool = False,
    ) -> None:
        self.network, self.engine, self.xz = network, engine, xz
        self.conversion, self.card = dict(conversion or {}), dict(card or {})
        super().__init__(make_engine(network, engine))

    def __repr__(self) -> str:
        graph = "" if self.actor.graph.is_chain else f"{self.actor.graph.kind}, "
        return f"SpikingPolicy({self.actor.name}, {graph}{self.conversion.get('neuron')}, timesteps={self.timesteps})"

    @property
    def actor(self) -> Actor:
        """Return the ANN it was converted from."""
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

    def warm_up(self) -> None:
        """Do what a first decision has to do once, such as loading the compiled core; changes nothing else.

        `convert` and `load` call it, so that a control loop never waits for it.
        """
        self._engine.decide(np.zeros((1, *self.observation_shape), np.float32), self.initial_state(1))

    def _made_of(self) -> tuple[Any, ...]:
        return self.network, self.engine, self.conversion, self.card, self.xz

    def _remake(self, made_of: tuple[Any, ...]) -> None:
        network, engine, conversion, card, xz = made_of
        self.__init__(network, engine=engine, conversion=conversion, card=card, xz=xz)

    @property
    def bundle(self) -> "Bundle":
        """Return what is stored and exported: the network, how it was made, and its card."""
        from snn_policy.bundle import Bundle

        return Bundle(self.network, self.conversion, self.card, self.xz)

    def save(
        self,
        directory: str | Path,
        *,
        dtype: str = "float32",
        observations: FloatArray | None = None,
        xz: bool | None = None,
    ) -> None:
        """Write `policy.json` and its weights into the directory (made if missing), as `bundle.files` says.

        Args:
            dtype: "float16" stores the weights in half the room. They are rounded first, the actions compared, and the
                stored card says by how much they change (`stored`); what is loaded acts as the rounded network does.
            observations: (N, *observation_shape) to compare on; 200 random ones by default.
            xz: compress the file of weights, which loses nothing; snn-policy 0.1.0 does not read it. By default, as in
                the bundle that the policy was loaded from.

        Raises:
            ValueError: another dtype, a weight beyond float16's range, or an action that rounding changes by more than
                1e-3 half-ranges.
        """
        from snn_policy.bundle import write_bundle

        xz = self.xz if xz is None else xz
        if dtype == "float32":
            write_bundle(Path(directory), self.network, self.conversion, self.card, xz=xz)
            return
        require(dtype == "float16", f"dtype {dtype!r}: expected float32 or float16")
        from snn_policy.calibration.half_precision import as_float16

        network, stored = as_float16(self.network, observations)
        card = {**self.card, "stored": stored}
        write_bundle(Path(directory), network, self.conversion, card, dtype=dtype, xz=xz)

    def export_onnx(self, directory: str | Path, **options: Any) -> "Exported":
        """Write the policy as ONNX graphs, with its bundle; arguments as for `exporting.export.export_bundle`."""
        from snn_policy.exporting.export import export_bundle

        return export_bundle(self.bundle, directory, **options)

    def export_c(self, directory: str | Path, **options: Any) -> "ExportedC":
        """Write the policy as C99; arguments as for `snn_policy.exporting.c_source.export_c`."""
        from snn_policy.exporting.c_source import export_c

        return export_c(self.bundle, directory, **options)

    def export_torchscript(self, file: str | Path, **options: Any) -> "ExportedTorchScript":
        """Write the policy as one TorchScript file; arguments as for `exporting.torchscript.export_torchscript`."""
        from snn_policy.exporting.torchscript import export_torchscript

        return export_torchscript(self.bundle, file, **options)

    def export_nir(self, file: str | Path, **options: Any) -> "ExportedNir":
        """Write an IF network under rate coding as a NIR graph; arguments as for `exporting.nir_graph.export_nir`."""
        from snn_policy.exporting.nir_graph import export_nir

        return export_nir(self.bundle, file, **options)

    @classmethod
    def load(cls, directory: str | Path, *, engine: str = "auto") -> "SpikingPolicy":
        """Read what `save` wrote; nothing in the files is ever executed.

        Raises:
            FileNotFoundError: no such directory, or a file of it is missing.
            SourceError: truncated, tampered with, or not a spiking policy.
        """
        from snn_policy.bundle import read_bundle

        bundle = read_bundle(Path(directory))
        policy = cls(bundle.network, engine=engine, conversion=bundle.conversion, card=bundle.card, xz=bundle.xz)
        policy.warm_up()
        return policy
