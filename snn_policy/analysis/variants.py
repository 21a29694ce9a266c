"""The same conversion with another α: the same weights, thresholds and quanta."""

from dataclasses import replace

from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons


def with_alpha(policy: SpikingPolicy, alpha: float) -> SpikingPolicy:
    """Return the policy with this share of the residual carried in every layer; all else is the same.

    Args:
        alpha: 0 to 1.

    Raises:
        ValueError: a share out of range.
    """
    neurons = policy.network.neurons
    if isinstance(neurons, SigmaDeltaNeurons):
        other = replace(neurons, alpha=(float(alpha),) * len(neurons.quanta))
    else:
        settings = replace(neurons.settings, alpha=(float(alpha),) * len(neurons.thresholds))
        other = replace(neurons, settings=settings)
    conversion = {**policy.conversion, "alpha": float(alpha)}
    return SpikingPolicy(SpikingNetwork(policy.actor, other), engine=policy.engine, conversion=conversion)
