"""Gymnasium wrappers for evaluating a policy with memory: membranes reset with the episode, costs in `info`."""

from snn_policy.wrappers.single import SpikingPolicyEval
from snn_policy.wrappers.vector import SpikingPolicyVectorEval

__all__ = ["SpikingPolicyEval", "SpikingPolicyVectorEval"]
