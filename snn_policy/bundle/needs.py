"""What a bundle needs of its reader beyond what the first release reads, by name, so that an old one can say it.

A bundle without needs keeps its old version, which old releases read; with needs it is of version `NEEDS_VERSION`, and
its `needs` lists them: releases that know the version name what they lack, and older ones name the version. Whatever is
new in a bundle's words (an activation, a kind of cell, of head or of observations) is added to `KNOWN`, and to
`needs_of` the rule that finds it; the version stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from snn_policy.ann.activations import ACTIVATION_NAMES
from snn_policy.errors import SourceError

NEEDS_VERSION = 4
FIRST_ACTIVATIONS = frozenset(("relu", "tanh", "elu", "silu", "leaky_relu", "qcfs"))
ARGMAXES, KEYS = "several argmaxes", "observations by key"
KNOWN = frozenset((*(f"activation {name}" for name in ACTIVATION_NAMES), ARGMAXES, KEYS))
MOST_NEEDS = 64


def needs_of(actor: Mapping[str, Any]) -> list[str]:
    """Return what a described actor needs of its reader, in order; empty where every release reads it."""
    needs = {f"activation {name}" for name in _activations(actor) if name not in FIRST_ACTIVATIONS}
    if actor["head"]["kind"] == "argmaxes":
        needs.add(ARGMAXES)
    if "observation_keys" in actor:
        needs.add(KEYS)
    return sorted(needs)


def _activations(actor: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all activations, of layers or of stages' cells."""
    layers = actor["layers"] if "layers" in actor else [stage["cell"] for stage in actor["graph"]["stages"]]
    for entry in layers:
        for given in (entry.get("activation"), *entry.get("activations", ())):
            if given is not None:
                yield given["name"]


def check_needs(place: Any, needs: Any) -> None:
    """Refuse a bundle that needs what this release does not know.

    Raises:
        SourceError: a need that is unknown, or no list of short texts.
    """
    texts = isinstance(needs, list) and 0 < len(needs) <= MOST_NEEDS
    if not texts or not all(isinstance(one, str) and 0 < len(one) <= 80 and one.isprintable() for one in needs):
        raise SourceError(f"{place}: its needs are no list of texts; the file was altered, save the policy again")
    unknown = [one for one in needs if one not in KNOWN]
    if unknown:
        raise SourceError(
            f"{place}: was written by a newer release: it needs {', '.join(unknown)}; update snn-policy to read it"
        )
