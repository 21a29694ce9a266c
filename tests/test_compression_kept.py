"""What a compression keeps and goes on with, what its command says of it, and recordings that show nothing."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from snn_policy import SourceError, convert, load_actor
from snn_policy.ann.layers import Head
from snn_policy.cli import main
from snn_policy.compression.checkpoints import CHECKPOINT_FILE, RUN_FILE
from snn_policy.compression.compress import _recording, run_compression
from snn_policy.compression.distillation import Distillation
from snn_policy.exported import path as shipped
from snn_policy.offline.training import train_run
from tests.actors import random_actor
from tests.test_compression import small, walk
from tests.test_compression_pictures import picture_actor, recording
from tests.test_td3bc import pack, transitions
from tests.test_td3bc import small as td3bc_settings

pytestmark = pytest.mark.filterwarnings("ignore:.* was not reached")


def run(directory: Path, resume: bool = True, seed: int = 0) -> Any:
    rows = walk(400, 11)
    return run_compression(random_actor(), small(steps=100, seed=seed), None, rows, directory, resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    run(directory)
    return directory


def flipped(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def changed(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], Any]) -> None:
    """Write a checkpoint anew, its digest as it was."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def with_another_error(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["progress"] = json.dumps(json.loads(metadata["progress"]) | {"error": 0.5})


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a bit of the middle": lambda path: flipped(path, 0.5),
    "a bit near the end": lambda path: flipped(path, 0.99),
    "weights × 1.7": lambda path: changed(path, lambda tensors, _: tensors["values"].mul_(1.7)),
    "moments × 2": lambda path: changed(path, lambda tensors, _: tensors["square"].mul_(2)),
    "two observations": lambda path: changed(path, lambda tensors, _: tensors["observations"][:2].add_(1)),
    "a weight pruned": lambda path: changed(path, lambda tensors, _: tensors["mask.0"].zero_()),
    "another error": lambda path: changed(path, with_another_error),
    "no digest": lambda path: changed(path, lambda _, metadata: metadata.pop("sha256")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_that_was_changed_by_as_much_as_a_bit_is_refused(
    change: str, finished: Path, tmp_path: Path
) -> None:
    for name in (RUN_FILE, CHECKPOINT_FILE):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    CHANGES[change](tmp_path / CHECKPOINT_FILE)
    with pytest.raises(SourceError, match=r"checkpoint\.safetensors: .*start anew, without --resume") as error:
        run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["actor", "critics.mean", "observation.scale"])
def test_a_changed_checkpoint_of_td3bc_is_neither_resumed_nor_read(name: str, tmp_path: Path) -> None:
    data, settings = pack(transitions()), td3bc_settings()
    train_run(tmp_path, data, settings, 2)
    changed(tmp_path / CHECKPOINT_FILE, lambda tensors, _: tensors[name].mul_(1.7).add_(1e-3))
    with pytest.raises(SourceError, match=r"checkpoint\.safetensors: .*put back a copy"):
        train_run(tmp_path, data, settings, 4, resume=True)
    with pytest.raises(SourceError, match="put back a copy"):
        load_actor(tmp_path)


def test_a_td3bc_checkpoint_without_a_digest_is_read_with_a_warning(tmp_path: Path) -> None:
    data, settings = pack(transitions()), td3bc_settings()
    train_run(tmp_path, data, settings, 2)
    load_actor(tmp_path)
    changed(tmp_path / CHECKPOINT_FILE, lambda _, metadata: metadata.pop("sha256"))
    with pytest.warns(UserWarning, match="has no digest"):
        assert load_actor(tmp_path).name.endswith("-2")
    with pytest.warns(UserWarning, match="has no digest"):
        assert train_run(tmp_path, data, settings, 4, resume=True).step == 4


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_begins_anew(resume: bool, finished: Path, tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_bytes((finished / RUN_FILE).read_bytes())
    run(tmp_path, resume)
    assert (tmp_path / CHECKPOINT_FILE).is_file()
    with pytest.raises(ValueError, match=r"holds a compression already; go on with it \(--resume; in Python resume="):
        run(tmp_path, resume=False)


def test_a_run_of_other_settings_without_a_checkpoint_says_what_to_delete(finished: Path, tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_bytes((finished / RUN_FILE).read_bytes())
    with pytest.raises(ValueError, match=r"seed is 0, not 3.*nothing of it is kept: delete .*compression\.json"):
        run(tmp_path, resume=False, seed=3)


def command(tmp_path: Path, source: str = "td3-Pendulum-v1") -> list[str]:
    np.save(tmp_path / "log.npy", walk(400, 3))
    out = ["--observations", str(tmp_path / "log.npy"), "--out", str(tmp_path / "small"), "--steps", "300"]
    return ["compress", source, *out, "--target", "energy:0.5"]


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_ctrl_c_says_whether_anything_is_kept_and_what_it_says_works(
    blocks: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snn_policy.compression.compress.CHECKPOINT_EVERY", 200)
    arguments, run_block, left = command(tmp_path), Distillation.run_block, blocks

    def stop(run: Distillation) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        run_block(run)

    with monkeypatch.context() as patched:
        patched.setattr(Distillation, "run_block", stop)
        assert main(arguments) == 130
    said, kept = capsys.readouterr().err, blocks == 2
    assert ("nothing is kept yet: run the same command again" in said) is not kept
    assert ("go on with the same command and --resume" in said) is kept
    assert main([*arguments, "--resume"] if kept else arguments) == 0


@pytest.mark.parametrize("source", ["td3-Pendulum-v1", "without", "with an environment"])
def test_the_next_command_can_be_run_as_it_stands(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    if source != "td3-Pendulum-v1":
        homeless = replace(load_actor(shipped("td3-Pendulum-v1")), env_id=None)
        convert(homeless, walk(400, 3)).save(tmp_path / "its model")
        given = [] if source == "without" else ["--env", "Pendulum-v1"]
        source = str(tmp_path / "its model")
    arguments = command(tmp_path, source)
    converted = ["convert", *arguments[1:4], "--out", str(tmp_path / "plain"), *given]
    for line in ([*arguments, "--steps", "100", *given], converted):
        capsys.readouterr()
        assert main(line) == 0
        following = re.search(r"next: snn-policy (.*)", capsys.readouterr().out)
        assert following is not None
        again = shlex.split(following.group(1))
        assert (again[0] == "inspect") is (source != "td3-Pendulum-v1" and not given)
        assert main([*(word if word != "100" else "2" for word in again)]) == 0


def still(rows: Any, kind: str) -> Any:
    """A recording of that many rows in which nothing happens."""
    constant = np.repeat(rows[:1], len(rows), 0)
    if kind == "alternates":
        constant[1::2] = rows[1]
    if kind == "moves three times":
        constant[[50, 100, 150]] = rows[[50, 100, 150]]
    if kind == "trembles":
        noise = np.random.default_rng(0).normal(size=constant.shape)
        return (constant + noise * (1.0 if constant.dtype == np.uint8 else 1e-5)).astype(np.float32)
    return constant


@pytest.mark.parametrize("kind", ["stands", "alternates", "moves three times", "trembles"])
@pytest.mark.parametrize("seen", ["vectors", "pictures", "vectors without bounds"])
def test_a_recording_that_does_not_move_is_refused_in_one_line(kind: str, seen: str) -> None:
    if seen == "pictures":
        actor, rows = picture_actor(), recording(300)
    else:
        actor, rows = random_actor(), walk(300, 11)
        if seen == "vectors without bounds":
            free = np.full(actor.head.outputs, np.inf, np.float32)
            actor = replace(actor, head=Head.clip(-free, free))
    with pytest.raises(ValueError, match=r"observations: .*a recording that does not move says nothing") as error:
        run_compression(actor, small(steps=100), None, still(rows, kind))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("different", [2, 12, 19])
def test_a_few_states_are_enough_where_there_is_an_environment_to_act_in(different: int) -> None:
    rows = walk(different, 3)[np.arange(300) % different]
    actor = load_actor(shipped("td3-Pendulum-v1"))
    with pytest.raises(ValueError, match=f"only {different} different among 300"):
        run_compression(actor, small(steps=100), None, rows)
    assert len(_recording(rows, actor, 2)) == 300
