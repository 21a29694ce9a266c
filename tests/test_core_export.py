"""A policy as C: it compiles without a warning as C99 and C++, and acts as the policy does, to the bit."""

import shutil
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.cli import main
from snn_policy.engines.core.blocks import pack, unpacked
from snn_policy.engines.core.layout import LINEAR, SPARSE, Writer
from snn_policy.exporting.c_source import _number, export_c
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    dyadic_image_actor,
    image_walk,
    membrane_neurons,
    pruned,
    random_actor,
    sigma_delta_neurons,
    walk,
)
from tests.compiled_policy import verify_at
from tests.core_parts import propagate_blocks

COMPILERS = ("gcc -std=c99", "clang -std=c99", "g++ -x c++ -std=c++17", "clang++ -x c++ -std=c++17")
FLAGS = ("-O2", "-O3 -march=native")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SETTINGS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "sigma-delta base 3": {"base": 3.0},
    "sigma-delta carrying": {"alpha": 0.5},
    "sigma-delta carrying by stage": {"alpha": (0.25, 0.5, 1.0), "neuron": "sigma-delta", "predictor": 1},
    "if": {"neuron": "if", "timesteps": 5},
    "mt differential": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "adaptive calibration": {"neuron": "if", "calibration": SpikeCalibration(adaptive=(0, 2))},
}
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


@cache
def converted(name: str) -> SpikingPolicy:
    """Made once; who changes it takes a copy."""
    return convert(random_actor(widths=(70, 33), outputs=6, normalised=True), walk(300), **SETTINGS[name])


@needs_compiler
@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_c_policy_acts_as_the_policy_to_the_bit(name: str, vectors: bool, tmp_path: Path) -> None:
    policy = converted(name)
    made = policy.export_c(tmp_path, prefix="walker", observations=walk(1_500), vectors=vectors)
    assert made.verified == 1_500
    weights = sum(layer.weight.nbytes for layer in policy.actor.layers)
    assert weights < made.flash < (1.8 if vectors else 1.5) * weights


@pytest.mark.parametrize(("options", "packed"), [({}, False), ({"layout": "arduino"}, True), ({"vectors": False}, True),
                                                 ({"layout": "arduino", "vectors": True}, False)])  # fmt: skip
def test_boards_get_weights_without_room_for_vectors(options: dict[str, Any], packed: bool, tmp_path: Path) -> None:
    sizes = [converted("sigma-delta").export_c(tmp_path / str(vectors), verify=False, vectors=vectors).flash
             for vectors in (False, True)]  # fmt: skip
    assert sizes[0] < sizes[1]
    assert converted("sigma-delta").export_c(tmp_path, verify=False, **options).flash == sizes[0 if packed else 1]


@needs_compiler
@pytest.mark.parametrize("kind", ["argmax", "clip", "tanh"])
def test_heads_and_pictures_are_exported_as_well(kind: Any, tmp_path: Path) -> None:
    actor = dyadic_image_actor(kind=kind)
    policy = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)))
    assert export_c(policy.bundle, tmp_path, observations=image_walk(1_000)).verified == 1_000


@pytest.mark.parametrize(
    ("name", "compiler", "flags"),
    [  # every pair of two: a program with a compiler, with a level of optimisation, and these with each other
        (name, compiler, FLAGS[(program + number) % 2])
        for program, name in enumerate(("sigma-delta", "if"))
        for number, compiler in enumerate(COMPILERS)
    ],
)
def test_no_compiler_has_anything_to_say(name: str, compiler: str, flags: str, tmp_path: Path) -> None:
    command = compiler.split()
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    converted(name).export_c(tmp_path, verify=False)
    for file in ("policy.c", "main.c"):
        target = ["-c", str(tmp_path / file), "-o", str(tmp_path / "out.o")]
        done = subprocess.run([*command, *flags.split(), *WARNINGS, *target], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_on_another_processor_the_bits_are_the_same(tmp_path: Path) -> None:
    if not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64") and shutil.which("cc")):
        pytest.skip("gcc-aarch64-linux-gnu or qemu-user is not installed")
    converted("sigma-delta").export_c(tmp_path, verify=False)
    text = "\n".join(" ".join(f"{entry:.9g}" for entry in obs) for obs in walk(400))
    outputs = []
    for compiler, run in ((["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"]), (["cc"], [])):
        target = str(tmp_path / compiler[0])
        sources = [str(tmp_path / file) for file in ("policy.c", "main.c")]
        subprocess.run([*compiler, "-std=c99", "-O2", "-ffp-contract=off", *sources, "-o", target], check=True)
        outputs.append(subprocess.run([*run, target], input=text, capture_output=True, text=True, check=True).stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 400


@pytest.mark.parametrize("prefix", ["", "3d", "a-b", "a b", "snn_x", "x" * 50, "a\nb"])
def test_a_prefix_must_be_an_identifier(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a C identifier"):
        converted("if").export_c(tmp_path, prefix=prefix)


def test_an_actors_name_cannot_leave_its_comment(tmp_path: Path) -> None:
    policy = deepcopy(converted("if"))
    policy.actor.name = "*/ int main(void) { return 1; } /*\n#error"
    policy.export_c(tmp_path, verify=False)
    first = (tmp_path / "policy.h").read_text().split("*/")[0]
    assert "no libm" in first
    assert "#error" not in first


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1e-45, 1.2e-38, 0.1, 16_777_216.0, 3.4028235e38, np.inf, -1e10])
def test_numbers_read_back_as_they_were(value: float) -> None:
    text = _number(value)
    limit = np.finfo(np.float32).max
    assert np.float32(text[:-1]) == np.clip(np.float32(value), -limit, limit)
    assert text.endswith("f")
    assert "." in text or "e" in text


@needs_compiler
def test_the_command_writes_it_and_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converted("sigma-delta").save(tmp_path / "bundle")
    command = ["export", str(tmp_path / "bundle"), "--c", "--prefix", "walker", "--out", str(tmp_path / "c")]
    assert main(command) == 0
    assert "1,000 decisions equal to the bit" in capsys.readouterr().out
    assert "walker_act" in (tmp_path / "c" / "policy.h").read_text()
    wide = (tmp_path / "c" / "policy.c").read_bytes()
    assert main([*command, "--no-vectors"]) == 0
    assert len((tmp_path / "c" / "policy.c").read_bytes()) < len(wide)
    assert main(["export", str(tmp_path / "bundle"), "--no-vectors"]) == 2
    assert "give --c, too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("block", "density", "level"),
    [(1, 0.2, "-O0"), (4, 0.3, "-O0"), (8, 0.25, "-O0"), (16, 0.25, "-O2"), (32, 0.3, "-O0"), (16, 0.0, "-O0")],
)
@pytest.mark.parametrize(("neuron", "vectors"), [("sigma-delta", None), ("sigma-delta", False), ("if", None)])
def test_sparse_weights_are_exported_without_their_zeros(
    neuron: str, block: int, density: float, level: str, vectors: bool | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Compared with the policy on 1,000 decisions, to the bit, which keeps the same layers as dense rows."""
    verify_at(level, monkeypatch)
    actor = pruned(random_actor(widths=(64, 64)), density, block)
    neurons = sigma_delta_neurons(actor) if neuron == "sigma-delta" else membrane_neurons(actor, timesteps=4)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons))
    found = policy.export_c(tmp_path, vectors=vectors)
    if found.verified == 0:
        pytest.skip(str(found.left_out))
    assert found.verified >= 1000
    stored = Writer(policy.network, 16, compact=True).layout()
    assert (Writer(policy.network, 16).layout().connections["kind"] == LINEAR).all()
    for connection, layer in zip(stored.connections[:-1], actor.hidden, strict=True):
        assert connection["kind"] == SPARSE
        blocks = int(stored.indices[connection["starts"] + layer.inputs])
        start, length = connection["weights"], blocks * connection["block"]
        zeros = int((stored.parameters[start : start + length] == 0).sum())
        assert length - zeros == layer.synapses
        assert zeros <= layer.inputs  # where the first row, all zero, cuts a block
    assert found.flash < 0.6 * sum(layer.weight.nbytes for layer in actor.layers) + 4096


def test_vectors_keep_zeros_where_leaving_them_out_takes_longer_and_the_bits_are_the_same(tmp_path: Path) -> None:
    actor = pruned(random_actor(widths=(128, 128)), 0.25, 1)
    policy = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)))
    fast, packed = (policy.export_c(tmp_path / str(vectors), vectors=vectors) for vectors in (True, False))
    assert fast.flash > 1.5 * packed.flash
    assert fast.verified == packed.verified


@pytest.mark.parametrize("seed", range(3))
def test_blocks_and_dense_rows_in_the_same_order_are_the_same_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for block in (1, 4, 8, 16, 32):
        for outputs in (3, 16, 37, 64, 130, 200):
            kept = np.repeat(rng.random((-(-outputs // block), 50)) < 0.3, block, axis=0)[:outputs]
            weight = (rng.normal(size=(outputs, 50)) * kept).astype(np.float32)
            values = (rng.normal(size=50) * (rng.random(50) < 0.5)).astype(np.float32)
            packed, dense = propagate_blocks(weight, values, block)
            assert np.array_equal(packed, dense)
            np.testing.assert_allclose(packed, weight.astype(np.float64) @ values, atol=1e-5)


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_packing_loses_nothing_and_takes_the_fewest_bytes(block: int) -> None:
    weight = pruned(random_actor(widths=(64, 96)), 0.3, block).layers[1].weight
    found = pack(weight)
    assert np.array_equal(unpacked(found, 96), weight)
    assert found.bytes < 0.7 * weight.nbytes
    if block > 1:
        assert found.block <= block
        assert found.block >= min(block, 4)
