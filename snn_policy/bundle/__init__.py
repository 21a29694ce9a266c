"""A policy's directory: `policy.json` and weights (`document`, `networks`), whole at all times (`files`)."""

from snn_policy.bundle.document import Bundle, read_bundle, write_bundle
from snn_policy.bundle.networks import describe_actor, describe_network

__all__ = ["Bundle", "describe_actor", "describe_network", "read_bundle", "write_bundle"]
