"""Gymnasium wrappers for evaluating a policy with memory: membranes reset with the episode, costs in `info`."""

from .single import SpikingPolicyEval
from .vector import SpikingPolicyVectorEval

__all__ = ["SpikingPolicyEval", "SpikingPolicyVectorEval"]
