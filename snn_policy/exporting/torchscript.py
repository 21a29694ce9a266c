"""A spiking policy as TorchScript: one file that `torch.jit.load(path)(obs)` runs, with its memory inside.

export_torchscript(bundle, "run/policy.pt")        # see docs/torchscript.md

Made of the network's own code, traced (`torchscript_module`), and compared with the policy before it is written.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.atomic_files import write_atomically
from snn_policy.bundle import Bundle
from snn_policy.bundle.files import POLICY_FILE
from snn_policy.bundle.other_exports import NETWORK_KEY, network_digest
from snn_policy.checks import number, require
from snn_policy.errors import needs_extra
from snn_policy.exporting.description import Description
from snn_policy.exporting.export import describe
from snn_policy.exporting.graph_session import Outcome
from snn_policy.exporting.verification import Verification, compare, observations_to_verify
from snn_policy.protocol import LARGEST_OBSERVATION, FloatArray
from snn_policy.spiking.network import SpikingNetwork

FORMAT, FORMAT_VERSION = "snn-policy-torchscript", 1
BATCH = 3
"""Rows of the second comparison."""
METHODS = {
    "forward": "obs (N, *observation_shape) or (*observation_shape), any real dtype → action; the first call after "
    "reset_memory() says how many rows there are",
    "reset_memory": "() forgets all rows and their number",
    "reset_rows": "(mask (N,)) begins a new episode in the rows where the mask is true",
    "reset": "() as reset_memory",
}


@dataclass(frozen=True)
class ExportedTorchScript:
    """Say what was written.

    Attributes:
        file: the path.
        verification: what the comparisons with the policy found, of one row and of several; empty if not asked for.
    """

    file: Path
    verification: tuple[Verification, ...]


def export_torchscript(
    bundle: Bundle,
    file: str | Path,
    *,
    observations: Any = None,
    verify: bool = True,
    control_period: float | None = None,
) -> ExportedTorchScript:
    """Write the policy as one TorchScript file (its folder is made if missing); an older one is replaced as a whole.

    Args:
        observations: (N, *shape) consecutive, to verify on; by default a random walk.
        verify: compare 1,000 decisions and more with the policy's, half of them from a reset; nothing is written where
            they differ by more than rounding.
        control_period: seconds per decision, where known: written into the metadata.

    Raises:
        ModuleNotFoundError: torch is not installed.
        ValueError: a directory in the file's place, a period that is not positive, observations of another shape, or a
            module that does not act as the policy.
    """
    path, network = Path(file), bundle.network
    require(not path.is_dir(), f"{path}: a directory; expected a file, such as policy.pt")
    period = None if control_period is None else number("control_period", control_period)
    require(period is None or 0 < period < 1e9, f"control_period {control_period!r}: expected seconds")
    torch = _torch()
    from snn_policy.exporting.torchscript_module import script_module

    widths = network.memory_widths
    description = describe(network, "decision", widths, None, False, period)
    about = {**metadata(description), NETWORK_KEY: network_digest(network)}
    saved = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated, and what robots load
        module = script_module(network, widths, LARGEST_OBSERVATION)
        torch.jit.save(module, saved, _extra_files={POLICY_FILE: json.dumps(about, indent=1)})
        content = _without_source_paths(saved.getvalue())
        found = _verify(network, content, description, observations) if verify else ()
    for result in found:
        require(
            result.passed, f"{path}: the TorchScript module does not act as the policy, nothing is written: {result}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return ExportedTorchScript(path, found)


def metadata(description: Description) -> dict[str, Any]:
    """Return what `policy.json` in the file says: the description of docs/onnx.md, and how the module is used."""
    fields = asdict(description)
    left_out = ("graph", "batch", "counted", "memories")
    memories, start = [], 0
    for name, width in description.memories:
        memories.append({"name": name, "columns": [start, start + width], "dtype": "float32"})
        start += width
    said = {name: value for name, value in fields.items() if name not in left_out}
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **said, "memory": memories, "methods": METHODS}


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise needs_extra("torch", task="exporting to TorchScript") from None
    return torch


def _without_source_paths(content: bytes) -> bytes:
    """Return the archive without the files that say where, on this machine, its source was read."""
    import torch

    reader, stream = torch._C.PyTorchFileReader(BytesIO(content)), BytesIO()
    writer: Any = torch._C.PyTorchFileWriter(stream)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record: Any = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return stream.getvalue()


def _verify(
    network: SpikingNetwork, content: bytes, description: Description, observations: Any
) -> tuple[Verification, ...]:
    stream = observations_to_verify(network, observations)
    alone, together = (_Loaded(content, description, rows) for rows in (1, BATCH))
    return compare(network, alone, stream), compare(network, together, stream[: len(stream) // 10])


class _Loaded:
    """Run a saved module as `verification.compare` takes it: read back, and used by its methods and memory alone."""

    def __init__(self, content: bytes, description: Description, rows: int) -> None:
        import torch

        self._module: Any = torch.jit.load(BytesIO(content))
        fixed: Mapping[str, Any] = {**vars(description), "batch": rows}
        self.description = Description(**fixed)

    def run(self, obs: FloatArray, memory: tuple[FloatArray, ...]) -> Outcome:
        import torch

        before = np.concatenate(memory, axis=1)
        self._module.reset_memory()
        if before.any():
            self._module.memory = torch.from_numpy(before)
        action = self._module(torch.from_numpy(obs)).numpy()
        ends = np.cumsum([array.shape[1] for array in memory])[:-1]
        after = np.split(self._module.memory.numpy(), ends, axis=1)
        return Outcome(action, tuple(after), np.zeros((len(obs), 0), np.int64))
