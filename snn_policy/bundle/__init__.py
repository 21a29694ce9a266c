"""A policy's directory: `policy.json` and weights (`document`), replaced so that it is whole at all times (`files`)."""

from snn_policy.bundle.document import Bundle, describe_actor, describe_network, read_bundle, write_bundle

__all__ = ["Bundle", "describe_actor", "describe_network", "read_bundle", "write_bundle"]
