"""What a file of PyTorch's is (TorchScript archive, checkpoint, pickled module), found without running any of it."""

import io
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from snn_policy.untrusted_files import LARGEST_TEXT, MEGABYTE, MOST_GROWTH

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that files of torch.save began with before they were zips; two more pickles stand between."""
_STATE_DICTS = ("collections OrderedDict", "builtins dict", "torch._utils _rebuild_tensor_v2")
_CHECKPOINT = "a checkpoint"
_MOST_OPCODES = 200_000
_DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, UnicodeDecodeError)


def describe(path: Path) -> str | None:
    """Return what a file holds and what to do with it; None if it is no file of PyTorch's."""
    try:
        if zipfile.is_zipfile(path):
            return _zipped(path)
        with path.open("rb") as file:
            start = file.read(2)
            if start[:1] == b"\x80" and start[1:] and start[1] <= 5:
                file.seek(0)
                return _pickled(file.read(LARGEST_TEXT))
    except _DAMAGE:
        return None
    return None


def torch_kind(path: Path) -> Literal["TorchScript", "checkpoint"] | None:
    """Return which of the archives that are read a file is, whatever its name; None for other files."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            inner = {name.partition("/")[2] for name in archive.namelist()}
            if "data.pkl" not in inner:
                return None
            if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
                return "TorchScript"
    except _DAMAGE:
        return None
    return "checkpoint" if (describe(path) or _CHECKPOINT).startswith(_CHECKPOINT) else None


def is_sb3_zip(path: Path) -> bool:
    """Return whether a file, whatever its name, is a zip with the members of a Stable-Baselines3 model."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return {"data", "policy.pth"} <= set(archive.namelist())
    except _DAMAGE:
        return False


def _zipped(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inner = {name.partition("/")[2] for name in names}
        if any(name.startswith("models/") for name in inner) or "serialized_exported_program.json" in names:
            return "a torch.export program, which is not read; pass the original module, or export it to ONNX"
        pickled = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
        if pickled is None:
            return None
        with archive.open(pickled) as file:
            return _root(file.read(min(LARGEST_TEXT, MOST_GROWTH * path.stat().st_size + MEGABYTE)))


def _pickled(content: bytes) -> str | None:
    stream = io.BytesIO(content)
    if content.startswith(_LEGACY):
        try:
            for _ in range(3):
                for _opcode in pickletools.genops(stream):
                    pass
        except ValueError:
            return None
        return _root(content[stream.tell() :])
    return _root(content)


def _root(content: bytes) -> str | None:
    """Return what a pickle builds, by its first opcodes: a dictionary of tensors, or an object."""
    strings: list[str] = []
    named: list[str] = []
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count > _MOST_OPCODES:
                break
            if "UNICODE" in opcode.name:
                strings.append(str(argument))
            elif opcode.name == "GLOBAL":
                named.append(str(argument))
            elif opcode.name == "STACK_GLOBAL":
                named.append(" ".join(strings[-2:]))
            elif opcode.name == "EMPTY_DICT" and not named:
                named.append("builtins dict")
    except ValueError:
        return None
    if not named:
        return None
    torch_named = any(name.startswith("torch") for name in named)
    if named[0] in _STATE_DICTS:
        keys = [text for text in strings if "." in text and text.rpartition(".")[2] in ("weight", "bias")]
        some = f" ({', '.join(keys[:3])}, …)" if keys else ""
        remedy = "build the network, call its load_state_dict, and pass the module"
        what = f"{_CHECKPOINT}: weights without their network{some}, in torch's form before 1.6, which is not read"
        return f"{what}; {remedy}" if torch_named else None
    kind = named[0].replace(" ", ".")
    remedy = "if you trust it, torch.load(path, weights_only=False) it yourself, and pass the module"
    what = "a pickled module" if torch_named else "a pickled object"
    return f"{what} ({kind}), which could run anything and is not opened; {remedy}"
