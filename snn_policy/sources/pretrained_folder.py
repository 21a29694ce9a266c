"""Folders as LeRobot and Hugging Face's libraries save models: config.json beside model.safetensors."""

from pathlib import Path

from snn_policy.errors import UnsupportedLayerError
from snn_policy.untrusted_files import MEGABYTE, checked, parse_json

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"
_REFUSED = {
    "act": "a transformer that makes chunks of actions", "diffusion": "a diffusion policy",
    "multi_task_dit": "a diffusion transformer", "pi0": "a transformer with flow matching",
    "pi0fast": "a transformer", "pi0_fast": "a transformer", "pi05": "a transformer with flow matching",
    "smolvla": "a transformer with flow matching", "vqbet": "a transformer", "groot": "a diffusion transformer",
    "xvla": "a transformer with flow matching", "tdmpc": "a planner in a learned model, not a policy in one pass",
}  # fmt: skip
"""LeRobot's policies by the `type` in their configuration, those that are no feed-forward network."""


def is_weights_folder(path: Path) -> bool:
    """Return whether a path is such a folder."""
    return (path / WEIGHTS).is_file() and (path / CONFIGURATION).is_file()


def weights_of(path: Path) -> Path:
    """Return the file of weights in a folder, unless its configuration names a policy that cannot be converted.

    Raises:
        UnsupportedLayerError: a transformer, a diffusion policy, …: named.
        SourceError: a configuration that is none.
    """
    file = path / CONFIGURATION
    configuration = parse_json(checked(file, MEGABYTE).read_bytes(), file)
    kind = str(configuration.get("type", configuration.get("model_type", ""))).lower()
    if kind in _REFUSED:
        remedy = "Hand over a policy that is a network of linear layers, convolutions and recurrent cells"
        raise UnsupportedLayerError(str(path), kind, f"it is {_REFUSED[kind]}", remedy)
    return path / WEIGHTS
