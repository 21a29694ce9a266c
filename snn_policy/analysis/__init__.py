"""Why a conversion loses return, measured: errors along episodes, what they cost, and where they come from."""

from snn_policy.analysis.environment_state import (
    CannotRestoreError,
    EnvironmentState,
    check_restorable,
    restore_state,
    save_state,
)
from snn_policy.analysis.error_directions import Consistency, consistency
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.replayed import Replayed
from snn_policy.analysis.return_decomposition import Decomposition, decomposition
from snn_policy.analysis.state_divergence import Divergence, divergence
from snn_policy.analysis.task_sensitivity import Sensitivity, sensitivity
from snn_policy.analysis.walks import Walk, Walks, walk

__all__ = [
    "CannotRestoreError", "Consistency", "Decomposition", "Divergence", "EnvironmentState", "Estimate", "Replayed",
    "Sensitivity", "Walk", "Walks", "check_restorable", "consistency", "decomposition", "divergence", "estimate",
    "restore_state", "save_state", "sensitivity", "walk",
]  # fmt: skip
