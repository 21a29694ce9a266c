"""Why a conversion loses return, measured: errors along episodes, what they cost, and where they come from.

analysis = snn_policy.analysis.analyse(actor, policy, "HalfCheetah-v5", episodes=10)
analysis.findings; analysis.as_dict()

Every measure is a function in a file of its own, with its equation: `error_directions`, `return_decomposition`,
`state_divergence`, `task_sensitivity` restore states of the environment (`environment_state`); `residuals`, `spectra`,
`sticking`, `embedding`, `ablation` take recorded episodes (`traces`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_policy.analysis.report import Analysis, analyse

__all__ = ["Analysis", "analyse"]


def __getattr__(name: str) -> Any:
    """Return `analyse` or `Analysis`, loaded at their first use: they need Gymnasium."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("snn_policy.analysis.report"), name)
    globals()[name] = value
    return value
