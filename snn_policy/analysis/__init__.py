"""Why a conversion loses return, measured: errors along episodes, what they cost, and where they come from.

analysis = snn_policy.analysis.analyse(actor, policy, "HalfCheetah-v5", episodes=10)
analysis.findings; analysis.as_dict()

Every measure is also a function of its own, with its equation in its file. `consistency`, `decomposition`, `divergence`
and `sensitivity` restore states of the environment (`walk` does so once for all of them); `residual_cosines`,
`spectra`, `sticking`, `embedding` and `ablation` take episodes recorded with `record_traces`.
"""

from snn_policy.analysis.action_sticking import Sticking, Tolerances, sticking
from snn_policy.analysis.environment_state import (
    CannotRestoreError,
    EnvironmentState,
    check_restorable,
    restore_state,
    save_state,
)
from snn_policy.analysis.error_directions import Consistency, consistency
from snn_policy.analysis.error_sources import Ablation, ablation
from snn_policy.analysis.error_spectra import Spectra, spectra
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.replayed import Replayed
from snn_policy.analysis.report import Analysis, analyse
from snn_policy.analysis.residuals import ResidualCosines, residual_cosines, residual_cosines_by_alpha
from snn_policy.analysis.return_decomposition import Decomposition, decomposition
from snn_policy.analysis.state_divergence import Divergence, divergence
from snn_policy.analysis.state_embedding import Embedding, embedding, tsne
from snn_policy.analysis.task_sensitivity import Sensitivity, sensitivity
from snn_policy.analysis.traces import Trace, record_traces
from snn_policy.analysis.variants import with_alpha
from snn_policy.analysis.walks import Walk, Walks, walk

__all__ = [
    "Ablation", "Analysis", "CannotRestoreError", "Consistency", "Decomposition", "Divergence", "Embedding",
    "EnvironmentState", "Estimate", "Replayed", "ResidualCosines", "Sensitivity", "Spectra", "Sticking", "Tolerances",
    "Trace", "Walk", "Walks", "ablation", "analyse", "check_restorable", "consistency", "decomposition", "divergence",
    "embedding", "estimate", "record_traces", "residual_cosines", "residual_cosines_by_alpha", "restore_state",
    "save_state", "sensitivity", "spectra", "sticking", "tsne", "walk", "with_alpha",
]  # fmt: skip
