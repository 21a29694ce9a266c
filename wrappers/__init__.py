"""Gymnasium wrappers for evaluating a policy with memory: membranes reset with the episode, costs in `info`."""

from .parallel import SpikingPolicyParallelEval
from .single import SpikingPolicyEval
from .vector import SpikingPolicyVectorEval

__all__ = ["SpikingPolicyEval", "SpikingPolicyParallelEval", "SpikingPolicyVectorEval"]
