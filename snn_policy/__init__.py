"""Trained continuous-control policies as spiking neural networks, for any evaluation loop.

actor  = load_actor("model.zip")
policy = convert(actor, actor.collect("HalfCheetah-v5"))
policy.reset(); action = policy.act(obs)
"""

from snn_policy.commands.interrupts import quit_quietly_while_importing

quit_quietly_while_importing()  # only where this is the command `snn-policy`

# ruff: noqa: E402
from importlib import import_module
from typing import TYPE_CHECKING, Any

from snn_policy.actor import Actor
from snn_policy.convert import convert
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import Policy
from snn_policy.sources import load_actor
from snn_policy.spiking.settings import IF, MT, SNM, SigmaDelta
from snn_policy.spiking.spike_calibration import SpikeCalibration

if TYPE_CHECKING:
    from snn_policy.compression.compress import compress
    from snn_policy.evaluation.evaluate import Comparison, Evaluation, compare, evaluate
    from snn_policy.exporting.onnx_policy import OnnxPolicy

    __version__: str

__all__ = [
    "IF",
    "MT",
    "SNM",
    "Actor",
    "Comparison",
    "Evaluation",
    "OnnxPolicy",
    "Policy",
    "SigmaDelta",
    "SourceError",
    "SpikeCalibration",
    "SpikingPolicy",
    "UnsupportedLayerError",
    "compare",
    "compress",
    "convert",
    "evaluate",
    "load_actor",
]


_LAZY = {
    "Comparison": "snn_policy.evaluation.evaluate",
    "Evaluation": "snn_policy.evaluation.evaluate",
    "OnnxPolicy": "snn_policy.exporting.onnx_policy",
    "compare": "snn_policy.evaluation.evaluate",
    "compress": "snn_policy.compression.compress",
    "evaluate": "snn_policy.evaluation.evaluate",
}
"""Names whose modules are loaded at their first use: Gymnasium and ONNX Runtime take longer than all the rest."""


def __getattr__(name: str) -> Any:
    """Return a name of `_LAZY`, or the installed version; each is looked up once."""
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("snn-policy")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return every name of the package, those that are not loaded yet included."""
    return sorted({*globals(), *__all__, "__version__"})
