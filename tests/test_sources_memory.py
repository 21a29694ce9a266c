"""Small files ask for little memory, links lead nowhere, and code in any member of an archive stays a text."""

import io
import math
import os
import pickle
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from torch import nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
MEGABYTE = 2**20
MOST_PEAK = 1500 * MEGABYTE
"""What following a program may make, 256 MB, in a handful of readings; unbounded, these would be 3 to 10 GB."""


def refused(source: Any, most: int = MOST_PEAK, **options: Any) -> str:
    """Return the one line with which a source is refused, within so much memory."""
    tracemalloc.start()
    try:
        with pytest.raises((SourceError, UnsupportedLayerError)) as caught:
            load_actor(source, **options)
        assert tracemalloc.get_traced_memory()[1] <= most
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(source: Path, change: Callable[[str, bytes], bytes | None], target: Path) -> Path:
    """Return a copy of a zip, compressed, with its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for member in old.infolist():
            content = change(member.filename, old.read(member))
            if content is not None:
                new.writestr(member.filename, content)
    return target


def called(name: str, member: str) -> bool:
    """Return whether a member is the one meant; programs of classes that were scripted before have a number."""
    return name.endswith(member) or (member == "container.py" and "/container" in name and name.endswith(".py"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    torch.jit.script(nn.Sequential(nn.Linear(4, 2))).save(str(tmp_path / "s.pt"))  # pyright: ignore
    return tmp_path / "s.pt"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(
        {f"actor.{key}": value for key, value in nn.Sequential(nn.Linear(4, 2)).state_dict().items()}, tmp_path / "c.pt"
    )
    return tmp_path / "c.pt"


def program(source: Path, lines: list[str]) -> Path:
    """Return the archive with another forward."""

    def change(name: str, content: bytes) -> bytes:
        if not called(name, "container.py"):
            return content
        head, _, rest = content.decode().partition("def forward(self: ")
        kind = rest.partition(",")[0]
        body = "".join(f"    {line}\n" for line in lines)
        return f"{head}def forward(self: {kind},\n    input: Tensor) -> Tensor:\n{body}".encode()

    return rewritten(source, change, source.with_name("program.pt"))


PROGRAMS: dict[str, list[str]] = {
    "many constants": [*(f"a{k} = torch.ones([16777216])" for k in range(40)),
                       "return torch.mul(input, torch.sum(a3))"],
    "one constant": ["a = torch.ones([1000000, 1000000])", "return torch.mul(input, torch.sum(a))"],
    "broadcast": ["a = torch.ones([4096, 1024])",
                  "return torch.add(torch.unsqueeze(input, 0), torch.unsqueeze(a, -1))"],
    "many values": ["a0 = torch.relu(torch.expand(torch.unsqueeze(input, 0), [200000, 1, 4]))",
                    *(f"a{k + 1} = torch.tanh(a{k})" for k in range(60)), "return torch.mean(a60, [0])"],
    "copies": ["a0 = torch.cat([input, input], 1)", *(f"a{k + 1} = torch.cat([a{k}, a{k}], 1)" for k in range(40)),
               "return a40"],
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_a_few_lines_make_no_gigabytes(script: Path, name: str) -> None:
    path = program(script, PROGRAMS[name])
    assert path.stat().st_size < 20_000
    assert refused(path, observation_shape=(4,))


def graph(path: Path, nodes: list[Any], **constants: Any) -> Path:
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("action", TensorProto.FLOAT, None),
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _constants() -> list[Any]:
    one = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = []
    for k in range(40):
        nodes += [helper.make_node("ConstantOfShape", ["size"], [f"c{k}"], value=one),
                  helper.make_node("ReduceSum", [f"c{k}"], [f"r{k}"], keepdims=0),
                  helper.make_node("Add", ["x" if not k else f"y{k - 1}", f"r{k}"], [f"y{k}"])]  # fmt: skip
    return [*nodes, helper.make_node("MatMul", ["y39", "w"], ["action"])]


def _values() -> list[Any]:
    nodes = [helper.make_node("Expand", ["x", "rows"], ["e0"])]
    nodes += [helper.make_node("Tanh", [f"e{k}"], [f"e{k + 1}"]) for k in range(60)]
    return [
        *nodes,
        helper.make_node("ReduceMean", ["e60"], ["m"], axes=[0], keepdims=1),
        helper.make_node("MatMul", ["m", "w"], ["action"]),
    ]


def _range() -> list[Any]:
    return [helper.make_node("Range", ["a", "b", "a1"], ["r"]), helper.make_node("ReduceSum", ["r"], ["t"], keepdims=0),
            helper.make_node("Mul", ["x", "t"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["action"])]  # fmt: skip


GRAPHS: dict[str, tuple[Callable[[], list[Any]], dict[str, Any]]] = {
    "many constants": (_constants, {"size": np.array([2**24], np.int64)}),
    "many values": (_values, {"rows": np.array([200_000, 4], np.int64)}),
    "range": (_range, {"a": np.float32(0), "b": np.float32(1e9), "a1": np.float32(1)}),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_a_few_nodes_make_no_gigabytes(tmp_path: Path, name: str) -> None:
    nodes, constants = GRAPHS[name]
    path = graph(tmp_path / "p.onnx", nodes(), w=np.ones((4, 2), np.float32), **constants)
    assert path.stat().st_size < 20_000
    assert refused(path)


BOMB = bytes(200 * MEGABYTE)


@pytest.mark.parametrize("member", ["data/0", "data.pkl", "byteorder"])
def test_checkpoints_that_unpack_to_much_are_refused_within_their_own_size(checkpoint: Path, member: str) -> None:
    path = rewritten(
        checkpoint, lambda name, content: BOMB if called(name, member) else content, checkpoint.with_name("b.pt")
    )
    assert path.stat().st_size < 300_000
    assert "unpacks to more than" in refused(path, 64 * MEGABYTE, activation="relu")


@pytest.mark.parametrize("member", ["data/0", "constants/0", "container.py", "data.pkl", "constants.pkl"])
def test_programs_that_unpack_to_much_are_refused_within_their_own_size(script: Path, member: str) -> None:
    path = rewritten(script, lambda name, content: BOMB if called(name, member) else content, script.with_name("b.pt"))
    found = refused(path, 64 * MEGABYTE) if member in zipfile.ZipFile(path).namelist()[0] else None
    if found is None:
        tracemalloc.start()
        try:
            load_actor(path)
        except (SourceError, UnsupportedLayerError) as error:
            assert "\n" not in str(error)  # noqa: PT017
        assert tracemalloc.get_traced_memory()[1] <= 64 * MEGABYTE
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[2**29], [2**15, 2**14], [2**20, 2**20], [2**62]])
def test_tensors_larger_than_their_files_take_no_memory(tmp_path: Path, shape: list[int]) -> None:
    names = [helper.make_node("MatMul", ["x", "w"], ["action"])]
    path = graph(tmp_path / "p.onnx", names, w=np.ones((4, 2), np.float32))
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = shape
    onnx.save(model, path)
    refused(path, 64 * MEGABYTE)
    end = 4 * math.prod(shape)
    header = f'{{"actor.0.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}'.encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(tmp_path / "m.safetensors", 64 * MEGABYTE, activation="relu")


class Runs:
    """Write a file when it is unpickled."""

    place = ""

    def __reduce__(self) -> Any:
        return os.mkdir, (Runs.place,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "member", ["data.pkl", "constants.pkl", "version", "byteorder", "container.py", ".data/serialization_id"]
)
def test_code_in_any_member_of_an_archive_never_runs(
    script: Path, checkpoint: Path, member: str, protocol: int, tmp_path: Path
) -> None:
    Runs.place = str(tmp_path / "ran")
    code = pickle.dumps({"actor.0.weight": Runs()}, protocol)
    cases: list[tuple[Path, dict[str, Any]]] = [(script, {}), (checkpoint, {"activation": "relu"})]
    for source, options in cases:
        found = [name for name in zipfile.ZipFile(source).namelist() if called(name, member)]
        path = rewritten(
            source, lambda name, content, found=found: code if name in found else content, tmp_path / "code.pt"
        )
        try:
            load_actor(path, **options)
        except (SourceError, UnsupportedLayerError) as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert member not in ("data.pkl",)
        assert not (tmp_path / "ran").exists()


def test_code_never_runs_in_statistics_parameters_and_pickles_called_weights(tmp_path: Path) -> None:
    Runs.place = str(tmp_path / "ran")
    for protocol in range(6):
        (tmp_path / "v.pkl").write_bytes(pickle.dumps(Runs(), protocol))
        (tmp_path / "model.pt").write_bytes(pickle.dumps({"a.0.weight": Runs()}, protocol))
        net = nn.Linear(4, 2)
        cases: list[tuple[nn.Module | Path, dict[str, Any]]] = [
            (net, {"normaliser": tmp_path / "v.pkl"}),
            (tmp_path / "model.pt", {"activation": "relu"}),
        ]
        for source, options in cases:
            with pytest.raises((SourceError, UnsupportedLayerError, TypeError)):
                load_actor(source, **options)
    with warnings.catch_warnings(action="ignore"):
        torch.save(Runs(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pt", activation="relu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../c/data.pkl", "/tmp/data.pkl", "c/../../data.pkl", "./data.pkl"])
def test_members_that_leave_their_archive_are_refused(checkpoint: Path, name: str) -> None:
    path = checkpoint.with_name("l.pt")
    path.write_bytes(checkpoint.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    assert "leaves its folder" in refused(path, activation="relu")


def test_links_inside_of_archives_are_their_texts(checkpoint: Path, tmp_path: Path) -> None:
    """A member that is a symbolic link in the zip's own terms is read as the bytes that it holds."""
    (tmp_path / "secret").write_bytes(np.ones(8, np.float32).tobytes())
    path = tmp_path / "l.pt"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith("data/0"):
                member = zipfile.ZipInfo(member.filename)
                member.external_attr, content = 0o120777 << 16, str(tmp_path / "secret").encode()
            new.writestr(member, content)
    refused_or_read = refused(path, activation="relu") if len(str(tmp_path / "secret")) < 32 else "text"
    assert refused_or_read


@pytest.mark.parametrize(
    "place", ["../w.data", "/etc/passwd.data", "deeper/w.data", "link.data", "folder.data", "~/w.data"]
)
def test_weights_beside_a_graph_are_plain_files_of_its_folder(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "graphs"
    (folder / "deeper").mkdir(parents=True)
    (folder / "folder.data").mkdir()
    content = np.ones((4, 2), np.float32).tobytes()
    for target in (tmp_path / "w.data", folder / "deeper/w.data", tmp_path / "real.data"):
        target.write_bytes(content)
    (folder / "link.data").symlink_to(tmp_path / "real.data")
    path = graph(folder / "p.onnx", [helper.make_node("MatMul", ["x", "w"], ["action"])], w=np.ones((4, 2), np.float32))
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", str(len(content)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    assert "regular" in (told := refused(path)) or "link" in told or "not read" in told


def test_weights_of_a_folder_that_lead_elsewhere_or_are_cut_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"a.0.weight": np.ones((2, 4), np.float32)}, str(tmp_path / "real.safetensors"))
    content = (tmp_path / "real.safetensors").read_bytes()
    for made in (content[:20], content[:-4], (2**40).to_bytes(8, "little") + content[8:], b""):
        (folder / "model.safetensors").write_bytes(made)
        refused(folder, 64 * MEGABYTE, activation="relu")
    assert io.BytesIO(content).read(8)
