"""From the readers of chains to that of graphs: what a program is read by, and which of two refusals its user sees."""

from collections.abc import Callable, Mapping
from typing import Any

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError

_JOINS = ("joins two values", "concatenation", "several values are joined", "several inputs", "size is not known",
          "recurrent", "is not known", "one row per observation", "every part of an observation", "written into others",
          "order of axes", "selects", "several parts", "slices", "convolutions are read", "cannot be followed",
          "it takes a", "repeats values", "adds an axis", "works along axis", "whole layer", "no rule reads it",
          "on the observation itself", "torch.fx cannot follow", "divide", "cannot fold", "joins the", "lays", "laid")  # fmt: skip
"""Of reasons for which a program is refused as a chain, those that say no more than that it is none."""


def refuse_several(observation_shape: Any) -> None:
    """Raise where the shapes of several inputs are given: a chain has one."""
    if isinstance(observation_shape, Mapping):
        raise UnsupportedLayerError("forward", "inputs", "it takes several inputs", "")


def otherwise(refused: UnsupportedLayerError, read: Callable[[], Actor]) -> Actor:
    """Read a program as a graph that was refused as a chain.

    Raises:
        UnsupportedLayerError: it is refused as a graph, too: that refusal, or the first if it says more.
        SourceError: as a graph, it does not fit.
    """
    no_chain = any(text in str(refused) for text in _JOINS)
    try:
        return read()
    except UnsupportedLayerError as error:
        raise (error if no_chain else refused) from None
    except SourceError as error:
        raise (error if no_chain else refused) from None
