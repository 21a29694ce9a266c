"""What a file or folder is, in words, without reading more of it than that takes."""

import zipfile
from pathlib import Path

from snn_policy.bundle.files import GRAPH_FILES, POLICY_FILE, RUN_FILE
from snn_policy.sources.torch_files import describe, is_sb3_zip, torch_kind

_ENDINGS = {
    ".onnx": "an ONNX graph",
    ".safetensors": "weights in safetensors",
    ".json": "a reference actor's description",
    ".npz": "NumPy arrays",
    ".h5": "an HDF5 file (Keras?)",
    ".tflite": "a TensorFlow Lite graph",
    ".pb": "a TensorFlow graph",
    ".mnn": "an MNN graph",
    ".engine": "a TensorRT engine",
    ".xml": "an OpenVINO graph",
}


def kind_in_words(path: Path) -> str:
    """Return what something is: "a TorchScript archive", "a Stable-Baselines3 zip", …"""
    if not path.exists() and Path(f"{path}.safetensors").is_file():
        return "a reference actor (.safetensors + .json)"
    if path.is_dir():
        if (path / POLICY_FILE).is_file():
            return "a bundle (a converted policy, with the ANN inside)"
        if (path / RUN_FILE).is_file():
            return "a training run of this package"
        return "an exported graph of a spiking policy" if _is_export(path) else "a folder"
    if path.name in GRAPH_FILES:
        return "an exported graph of a spiking policy"
    if is_sb3_zip(path):
        return "a Stable-Baselines3 zip"
    kind = torch_kind(path)
    if kind is not None:
        return {"TorchScript": "a TorchScript archive", "checkpoint": "a checkpoint (weights without their network)"}[
            kind
        ]
    if path.suffix.lower() in _ENDINGS:
        return _ENDINGS[path.suffix.lower()]
    description = describe(path)
    if description is not None:
        return description.partition(",")[0].partition(":")[0]
    return "a zip" if zipfile.is_zipfile(path) else "a file of unknown kind"


def _is_export(path: Path) -> bool:
    return any((path / name).is_file() for name in GRAPH_FILES)
