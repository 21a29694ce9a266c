"""Trained policies of any known format as `Actor`s: `load_actor` looks at what it is given and asks the right reader.

torch, onnx and stable-baselines3 are imported only where their own files are read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.bundle.files import POLICY_FILE, holds_weights
from snn_policy.errors import SourceError
from snn_policy.sources.parts import refuse_parts
from snn_policy.sources.pretrained_folder import is_weights_folder, weights_of
from snn_policy.sources.random_streams import undisturbed
from snn_policy.sources.torch_files import describe, is_sb3_zip, torch_kind
from snn_policy.sources.training_run import is_training_run, read_training_run

ACCEPTED = (
    "a Stable-Baselines3 .zip or algorithm, a torch.nn.Module, an .onnx file, a TorchScript archive, "
    "a checkpoint (.pt, .pth, .safetensors, or a state dictionary), a reference .safetensors + .json pair, "
    "a bundle directory, a training run's directory, or an Actor"
)


def load_actor(
    source: Any,
    *,
    vecnormalize: Any = None,
    normaliser: Any = None,
    observation_shape: int | Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    output: str | None = None,
    activation: str | Sequence[str] | None = None,
    prefix: str | None = None,
    name: str | None = None,
) -> Actor:
    """Read a trained policy.

    Args:
        source: see `ACCEPTED`; files are recognised by their ending, a reference pair also by its stem.
        normaliser: observation statistics, for Stable-Baselines3, torch and ONNX policies: a `VecNormalize` or the path
            of its pickle, a `NormalizeObservation` or its `obs_rms`, or (mean, variance). Stable-Baselines3's are found
            by themselves, in a live algorithm's environment or beside a zip (docs/policies.md says where); False uses
            none.
        vecnormalize: the same, by its older name; not for ONNX.
        observation_shape: one observation's shape, where the source does not say; of images, (channels, height, width);
            of vectors their length will do.
            Of torch, TorchScript and ONNX policies with several inputs, the shape of each under its name: observations
            are then dictionaries.
        low, high: action bounds. Torch and ONNX policies are clipped to them; elsewhere they stand in for stored ones.
        env_id: the environment it was trained on, where the source does not say.
        output: for ONNX, the output that is the action; by default the one that an ArgMax makes, or whose name says so.
            For torch modules and TorchScript, which of several results is, by name or number.
        activation: for checkpoints, which do not store it: the hidden layers' function, or "HIDDEN,OUTPUT".
        prefix: for checkpoints that hold several networks, the one that is the policy.
        name: for messages and plots; by default the file's stem.

    Raises:
        SourceError: no such file, damaged, or of another format.
        UnsupportedLayerError: a layer that cannot be converted faithfully.
        TypeError: another kind of source, or an argument that this kind does not take.
    """
    given: dict[str, Any] = {
        "observation_shape": _shape(observation_shape), "low": low, "high": high, "env_id": env_id, "name": name,
        "vecnormalize": vecnormalize, "normaliser": normaliser, "output": output,
        "activation": activation, "prefix": prefix,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    if {"vecnormalize", "normaliser"} <= options.keys():
        raise TypeError("vecnormalize, normaliser: two names of one argument; pass one of them")
    with undisturbed():
        if isinstance(source, str | Path):
            return _read_path(file_meant(Path(source)), options)
        return _read_object(source, options)


def _shape(given: Any) -> Any:
    """Return a shape, of a vector's length too; of several inputs by name, that of each.

    Raises:
        TypeError: it is none.
    """
    one = isinstance(given, int | np.integer) and not isinstance(given, bool)
    sizes: Any = (int(given),) if one else given
    if isinstance(given, Mapping) and given and all(isinstance(name, str) for name in given):
        several = {name for name, shape in given.items() if _holds_sequences(shape)}  # judged where it is known of what
        return {name: shape if name in several else _shape(shape) for name, shape in given.items()}
    if given is None:
        return given
    known = isinstance(sizes, Sequence | np.ndarray) and not isinstance(sizes, str | bytes)
    if not known or any(isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1 for size in sizes):
        told = " ".join(repr(given).split())[:80]
        raise TypeError(f"observation_shape: expected sizes like (8,) or (3, 84, 84), got {told}")
    return sizes


def _holds_sequences(given: Any) -> bool:
    return isinstance(given, list | tuple) and any(isinstance(part, list | tuple) for part in given)


def _read_object(source: Any, options: dict[str, Any]) -> Actor:
    held = getattr(source, "actor", source)
    if isinstance(held, Actor):
        _takes(options, "an Actor")
        return held
    refuse_parts(source)
    if _has_base(source, "BaseAlgorithm", "stable_baselines3") or _has_base(source, "BasePolicy", "stable_baselines3"):
        from snn_policy.sources.sb3 import read_algorithm

        _takes(options, "a Stable-Baselines3 algorithm", "vecnormalize", "normaliser", "low", "high", "env_id", "name")
        return read_algorithm(source, **_renamed(options))
    if _has_base(source, "Module", "torch.nn"):
        from snn_policy.sources.rsl_rl import exportable
        from snn_policy.sources.torch_module import read_torch_module

        names = ("normaliser", "vecnormalize", "observation_shape", "low", "high", "env_id", "name")
        if _has_base(source, "ScriptModule", "torch.jit"):
            from snn_policy.sources.torchscript import read_live_script

            _takes(options, "a scripted module", *names, "output")
            return read_live_script(source, **_with_statistics(options))
        _takes(options, "a torch module", *names, "output")
        return read_torch_module(exportable(source), **_with_statistics(options))
    if isinstance(source, Mapping):
        from snn_policy.sources.weight_names import flattened

        if any("." in key for key in flattened(source)):
            return _read_weights(source, options)
        remedy = "build the network, call its load_state_dict, and pass the module"
        what = f"cannot read a policy from {type(source).__name__}: weights without their network"
        raise TypeError(f"{what}; {remedy}; expected {ACCEPTED}")
    what = f"cannot read a policy from {type(source).__name__}"
    if isinstance(source, tuple) and len(source) > 1 and isinstance(source[1], Mapping):
        raise TypeError(f"{what}; of brax's parameters (normaliser, policy, value), pass the policy's, and normaliser=")
    raise TypeError(f"{what}: expected {ACCEPTED}")


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords with `normaliser` under its older name."""
    return {"vecnormalize" if key == "normaliser" else key: value for key, value in options.items()}


def _with_statistics(options: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords with what `normaliser` or `vecnormalize` holds, read."""
    from snn_policy.sources.observation_statistics import read_statistics

    rest = {key: value for key, value in options.items() if key not in ("normaliser", "vecnormalize")}
    source = options.get("normaliser", options.get("vecnormalize", False))
    return rest | ({} if source is False else {"normaliser": read_statistics(source)})


def file_meant(path: Path) -> Path:
    """Return the file that is meant: Stable-Baselines3's names lack their `.zip`."""
    zipped = path.parent / f"{path.name}.zip"
    known = path.suffix.lower() in (".zip", ".onnx", ".safetensors", ".json") or Path(f"{path}.safetensors").is_file()
    if known or path.is_file() or (path / POLICY_FILE).is_file() or is_training_run(path):
        return path
    return zipped if zipped.is_file() else path


def _read_path(path: Path, options: dict[str, Any]) -> Actor:
    ending = path.suffix.lower()
    if is_weights_folder(path):
        path = weights_of(path)
        ending = path.suffix.lower()
    if is_training_run(path):
        _takes(options, "a training run", "name")
        return read_training_run(path, **options)
    if (path / POLICY_FILE).is_file() or (path.name == POLICY_FILE and path.is_file() and holds_weights(path.parent)):
        from snn_policy.bundle import read_bundle

        _takes(options, "a bundle")
        return read_bundle(path if path.is_dir() else path.parent).actor
    if ending == ".onnx":
        from snn_policy.sources.onnx_graph import read_onnx

        _takes(options, "an ONNX file", "normaliser", "observation_shape", "low", "high", "env_id", "output", "name")
        return read_onnx(path, **_with_statistics(options))
    kind = torch_kind(path)
    if kind == "checkpoint":
        return _read_weights(path, options)
    if ending == ".safetensors" and not path.with_suffix(".json").is_file() and path.is_file():
        try:
            return _read_weights(path, options)
        except SourceError as error:
            other = f"{path.with_suffix('.json').name}: no such file, so {path.name} is no half of a reference pair"
            raise SourceError(f"{error} ({other})") from None
    if kind == "TorchScript":
        from snn_policy.sources.torchscript import read_torchscript

        names = ("normaliser", "observation_shape", "low", "high", "env_id", "output", "name")
        _takes(options, "a TorchScript archive", *names)
        return read_torchscript(path, **_with_statistics(options))
    if ending == ".zip" or (ending not in (".safetensors", ".json") and is_sb3_zip(path)):
        from snn_policy.sources.sb3 import read_zip

        _takes(options, "a Stable-Baselines3 zip", "vecnormalize", "normaliser", "low", "high", "env_id", "name")
        other = None if is_sb3_zip(path) or not path.is_file() else describe(path)
        if other is not None:
            raise SourceError(f"{path}: {other}")
        return read_zip(path, **_renamed(options))
    if ending in (".safetensors", ".json") or Path(f"{path}.safetensors").is_file():
        from snn_policy.sources.reference import read_reference

        _takes(options, "a reference actor", "observation_shape", "low", "high", "env_id", "name")
        return read_reference(path, **options)
    if not path.exists():
        raise SourceError(f"{path}: no such file; expected {ACCEPTED}")
    what = describe(path) if path.is_file() else None
    if what is not None:
        raise SourceError(f"{path}: {what}")
    if path.is_dir():
        what = f"directory without {POLICY_FILE}"
    elif not path.stat().st_size:
        what = "an empty file"
    else:
        what = f"file of unknown {'content' if ending in ('.pt', '.pth', '.ckpt') else 'ending'}, or cut off"
    raise SourceError(f"{path}: {what}; expected {ACCEPTED}")


def _read_weights(source: Any, options: dict[str, Any]) -> Actor:
    from snn_policy.sources.checkpoints import read_checkpoint

    names = ("activation", "prefix", "normaliser", "observation_shape", "low", "high", "env_id", "name")
    _takes(options, "a checkpoint", *names)
    read = _with_statistics(options)
    without: dict[str, Any] = {"normaliser": ()} if options.get("normaliser", True) is False else {}
    return read_checkpoint(source, **read, **without)


OF_ONE_INPUT = ("a checkpoint", "a reference actor")


def _takes(options: dict[str, Any], source: str, *names: str) -> None:
    for name in options.keys() - set(names):
        raise TypeError(f"{name}: {source} does not take this argument ({', '.join(names) or 'it takes none'})")
    if isinstance(options.get("observation_shape"), Mapping) and source in OF_ONE_INPUT:
        raise TypeError(f"observation_shape: {source} has one input; expected its sizes, like (8,), not sizes by name")


def _has_base(source: Any, name: str, package: str) -> bool:
    """Return whether a class of this name and package is among the object's bases, without importing the package."""
    return any(base.__name__ == name and base.__module__.startswith(package) for base in type(source).__mro__)
