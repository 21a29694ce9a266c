"""SpikingNetwork and decide(): all timesteps of one decision, pure: (observation, state) → (action, state).

Written against the array-API: the arrays' own namespace (NumPy, torch) does the work.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.protocol import Array, Decision
from snn_policy.spiking.membrane import decide_membrane
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.sigma_delta import decide_sigma_delta, initial_state
from snn_policy.spiking.state import DERIVED, AdaptiveState, MembraneState, RecurrentState, State


@dataclass(frozen=True, eq=False)
class SpikingNetwork:
    """Hold an actor's weights with spiking neurons in place of its activations: data, and pure functions of it.

    Attributes:
        actor: the weights, the normaliser and the head, shared with the ANN.
        neurons: the neurons' model and parameters.
    """

    actor: Actor
    neurons: MembraneNeurons | SigmaDeltaNeurons

    @property
    def spiking_widths(self) -> tuple[int, ...]:
        """Return neurons per layer that spikes: hidden layers; sigma-delta: the observation's stage first."""
        return self.actor.widths[0 if isinstance(self.neurons, SigmaDeltaNeurons) else 1 :]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Return the names of the columns of `Decision.spikes`."""
        stages = ("observation", *(f"hidden{i}" for i in range(1, len(self.actor.widths))))
        return stages[0 if isinstance(self.neurons, SigmaDeltaNeurons) else 1 :]

    def initial_state(self, n: int) -> State:
        """Return the state of n rows after a reset: zeros."""
        if isinstance(self.neurons, SigmaDeltaNeurons):
            return initial_state(n, self.actor.graph, self.neurons)
        memory = np.zeros((n, sum(self.spiking_widths)), np.float32)
        if self.neurons.calibration is not None and self.neurons.calibration.adaptive is not None:
            return AdaptiveState(memory, np.zeros((n, 1), np.float32))
        return MembraneState(memory)

    @property
    def memory_widths(self) -> dict[str, int]:
        """Return the columns of every memory that a decision needs of the one before, by its name in the state."""
        state = self.initial_state(1)
        absent = ("residual", "cell") if isinstance(state, RecurrentState) else ()
        widths = {name: array.shape[1] for name, array in state._asdict().items() if name not in DERIVED}
        return {name: width for name, width in widths.items() if width or name not in absent}

    def decide(self, obs: Array, state: Any) -> tuple[Array, State, Decision]:
        """Make one decision of every row.

        Args:
            obs: (rows, *observation_shape) float32, finite.
            state: as `initial_state(rows)` or an earlier call gave it; not changed.

        Returns:
            The actions (rows, *action_shape), the new state and what the decision cost, all in obs's namespace.
        """
        x = self.actor.inputs(obs)
        if isinstance(self.neurons, SigmaDeltaNeurons):
            y, new_state, decision = decide_sigma_delta(x, state, self.actor.graph, self.neurons)
        else:
            y, new_state, decision = decide_membrane(x, state, self.actor.layers, self.neurons)
        return self.actor.head(y), new_state, decision
