"""What the graphs of one timestep have in common: their memories, and the one that counts timesteps."""

from snn_policy.actor import Actor
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.tracing import Traced
from snn_policy.spiking.neurons import SigmaDeltaNeurons

Memory = dict[str, Traced]
Step = tuple[Traced, Memory, Traced]
"""The last stage's y, the memories after the timestep, and what it has cost."""


def sigma_delta_memories(actor: Actor, neurons: SigmaDeltaNeurons) -> dict[str, int]:
    """Return widths of the memories: what the neurons have sent, the residual if it is carried, and what they have yet
    to send in this decision."""
    names = ("memory", *(("residual",) if neurons.carries else ()), "potential")
    return {**dict.fromkeys(names, sum(actor.widths)), "timestep": 1}


def next_timestep(timestep: Traced, timesteps: int) -> tuple[Traced, Traced]:
    """Return whether this timestep is the decision's last, and the memory that counts on, 0 after the last."""
    following = timestep + 1
    last = following > timesteps - 0.5
    return last, xp.where(last, following * 0, following)
