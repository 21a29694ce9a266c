"""OnnxPolicy: an exported spiking policy, run by ONNX Runtime with nothing but NumPy beside; a `Policy` as others.

robot = OnnxPolicy("run/cheetah")
robot.reset(); action = robot.act(obs)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from snn_policy.bundle.files import graph_file
from snn_policy.checks import require, whole
from snn_policy.errors import SourceError
from snn_policy.exporting.description import GRAPHS
from snn_policy.exporting.graph_session import CPU, Graph, GraphEngine, open_graph
from snn_policy.stateful import StatefulPolicy


class OnnxPolicy(StatefulPolicy):
    """Run an exported policy: see `StatefulPolicy` for `reset`, `act`, `predict`, `step` and `state`.

    Attributes:
        description: what the graph says about itself.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        graph: str = "decision",
        providers: Sequence[Any] = CPU,
        threads: int = 1,
    ) -> None:
        """Load `decision.onnx`, or `step.onnx` with graph="step", from a directory; or the given .onnx file.

        Args:
            providers: of ONNX Runtime, in the order of preference.
            threads: of one operation; more than one starves control loops.

        Raises:
            FileNotFoundError: no such file.
            SourceError: not an exported policy, damaged, without counts, or beside another policy's bundle.
            ValueError: an unknown graph or provider.
        """
        require(graph in GRAPHS, f"graph {graph!r}: expected one of {', '.join(GRAPHS)}")
        require(whole(threads, 1, 1024), f"threads {threads!r}: expected a whole number of at least 1")
        place = Path(path)
        file = place if place.suffix == ".onnx" else place / graph_file(graph)
        self._open(open_graph(file, providers, threads), providers, threads)

    def _open(self, graph: Graph, providers: Sequence[Any], threads: int) -> None:
        self._file = graph.path.absolute(), providers, threads, graph.sha256
        self.description, self._graph = graph.description, GraphEngine(graph)
        self._low, self._high = self.description.bounds()
        super().__init__(self._graph, self.description.batch or 1)

    def __repr__(self) -> str:
        about = self.description
        return f"OnnxPolicy({about.name}, {about.neuron}, graph={about.graph}, timesteps={about.timesteps})"

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the graph's file."""
        return self._graph.graph.sha256

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def env_id(self) -> str | None:
        return self.description.env_id

    @property
    def observation_shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.description.shape

    @property
    def action_shape(self) -> tuple[int, ...]:
        return self.description.action_shape

    @property
    def discrete(self) -> bool:
        return self.description.discrete

    @property
    def low(self) -> npt.NDArray[Any]:
        return self._low

    @property
    def high(self) -> npt.NDArray[Any]:
        return self._high

    @property
    def timesteps(self) -> int:
        return self.description.timesteps

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.description.layers

    def initial_state(self, n: int) -> Any:
        return self._graph.initial_state(n)

    def _made_of(self) -> tuple[Any, ...]:
        return self._file

    def _remake(self, made_of: tuple[Any, ...]) -> None:
        path, providers, threads, sha256 = made_of
        graph = open_graph(path, providers, threads)
        if graph.sha256 != sha256:
            raise SourceError(f"{path}: not the graph that the pickled policy ran; load the policy anew")
        self._open(graph, providers, threads)
