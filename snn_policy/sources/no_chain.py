"""From the readers of chains to that of graphs: what a program is read by, and which of two refusals its user sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.vecnormalize import ObservationStatistics

_JUNCTIONS = ("joins two values", "concatenation", "several values are joined", "several inputs",
              "returns several values", "follows another activation", "written into others",
              "order of axes", "selects", "slices", "size is not known", "is not known here", "adds an axis",
              "works along axis", "repeats values", "Keep one row per observation", "every part of an observation",
              "rows of", "no rule reads it", "shape is not known", "does not depend on the observation",
              "cannot follow it", "chooses between values", "branches on values", "it jumps", "it rounds")  # fmt: skip
"""Of reasons for which a program is refused as a chain, those that say no more than that it is none."""
_LAYERS = ("recurrent", "whole layer", "cannot fold", "only two-dimensional convolutions")
_MISFITS = ("NaN or infinity", "normaliser gives")
"""Of errors of a chain, those that are errors of any graph."""
_KINDS = ("state spaces", "attention", "mixture of experts", "diffusion")
"""In reasons that name the kind of policy that it is."""
_JUMPS = "it jumps", "it rounds"
_SPELLED = "activation is not supported"
_CHOICE = "chooses by the observation"
"""What takes entries by constant lists is taken for a choice until it is read."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Hold what is said of a policy beside its program: `load_actor` has the arguments of these names."""

    name: str
    observation_shape: Any = None
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None
    env_id: str | None = None
    normaliser: Sequence[ObservationStatistics] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Return what an actor is made with, whatever it is read by."""
        return {"name": self.name, "low": self.low, "high": self.high, "env_id": self.env_id}


class Decisive(Exception):
    """Say why a module is refused, whatever else it could be refused for, and with whatever observations.

    Attributes:
        error: what its user is told.
    """

    def __init__(self, error: UnsupportedLayerError | SourceError) -> None:
        super().__init__(str(error))
        self.error = error


def refuse_several(observation_shape: Any) -> None:
    """Raise where the shapes of several inputs are given: a chain has one."""
    if isinstance(observation_shape, Mapping):
        raise UnsupportedLayerError("forward", "inputs", "it takes several inputs", "")


def otherwise(refused: UnsupportedLayerError | SourceError, read: Callable[[], Actor]) -> Actor:
    """Read a program as a graph that was refused as a chain, or did not fit as one.

    Raises:
        UnsupportedLayerError: it is refused as a graph, too: that refusal, or the first if it says more.
        SourceError: it fits as neither.
        Decisive: reading has found that it is to be refused, whatever it is read as.
    """
    if isinstance(refused, SourceError):
        if any(text in str(refused) for text in _MISFITS):
            raise refused
        try:
            return _quietly(read)
        except Decisive:
            raise
        except Exception:
            raise refused from None
    junction = any(text in str(refused) for text in _JUNCTIONS) and refused.kind != "Flatten"
    named = any(text in str(refused) for text in _LAYERS)
    try:
        actor = _quietly(read)
    except UnsupportedLayerError as error:
        if any(text in str(error) for text in _JUMPS):
            raise error from None
        kind = _SPELLED in str(refused) and any(text in str(error) for text in _KINDS)
        raise (_clearer(refused, error, named) if junction or named or kind else refused) from None
    except SourceError as error:
        if str(error).startswith("observation_shape"):
            raise
        if "pass observation_shape" not in str(error) or not (junction or named):
            raise refused from None
        remedy = f"As a graph of stages it may be read, but {error}"
        raise UnsupportedLayerError(refused.path, refused.kind, refused.reason, remedy) from None
    if actor.graph.is_chain and not (junction or named or _SPELLED in str(refused) or _CHOICE in str(refused)):
        raise refused
    return actor


def _quietly(read: Callable[[], Actor]) -> Actor:
    """Read where numbers may overflow: what is not finite is refused where it would be a weight."""
    with np.errstate(all="ignore"):
        return read()


def _clearer(first: UnsupportedLayerError, second: UnsupportedLayerError, named: bool) -> UnsupportedLayerError:
    """Return the refusal that names the layer at fault."""
    told = str(second)
    says_less = first.reason == second.reason or "no linear layer" in told
    says_less |= "of one observation" in told
    says_less |= "branch" in told and "branches" in str(first)
    says_less |= "baked" in str(first) or ("recurrent" in str(first) and "recurrent" not in told)
    says_less &= not any(text in told for text in _KINDS)
    says_less |= named and any(text in told for text in ("divides", "cannot be followed", "no rule reads it"))
    return first if says_less else second
