"""Trained continuous-control policies as spiking neural networks, for any evaluation loop.

actor  = load_actor("model.zip")
policy = convert(actor, actor.collect("HalfCheetah-v5"))
policy.reset(); action = policy.act(obs)
"""

from snn_policy.commands.interrupts import quit_quietly_while_importing

quit_quietly_while_importing()  # only where this is the command `snn-policy`

# ruff: noqa: E402
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from snn_policy.actor import Actor
from snn_policy.convert import convert
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.evaluation.evaluate import Comparison, Evaluation, compare, evaluate
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import Policy
from snn_policy.sources import load_actor
from snn_policy.spiking.settings import IF, MT, SNM, SigmaDelta
from snn_policy.spiking.spike_calibration import SpikeCalibration

if TYPE_CHECKING:
    from snn_policy.exporting.onnx_policy import OnnxPolicy

__version__ = version("snn-policy")

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
    "convert",
    "evaluate",
    "load_actor",
]


def __getattr__(name: str) -> Any:
    if name == "OnnxPolicy":  # ONNX Runtime is loaded only where it is used
        from snn_policy.exporting.onnx_policy import OnnxPolicy

        return OnnxPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
