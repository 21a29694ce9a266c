"""Exported policies on other processors, in emulators: the bits of `policy.act` on x86, and instructions counted.

`make test` runs a small set, `make nightly` (SNN_POLICY_CROSS=all) every case on every processor.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bare_metal import (
    BLOCKED_ANN,
    EXACT,
    PLAIN_ANN,
    TARGETS,
    Target,
    missing_packages,
    run,
    write_ann,
    write_policy,
)
from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.exported import path
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import dyadic_image_actor, image_walk, random_actor, sigma_delta_neurons, walk
from tests.stage_graphs import GRAPHS
from tests.stage_graphs import walk as graph_walk
from tests.stage_networks import stage_policy

EVERYTHING = os.environ.get("SNN_POLICY_CROSS") == "all"
nightly = pytest.mark.skipif(not EVERYTHING, reason="left to make nightly (SNN_POLICY_CROSS=all)")
SETTINGS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "sigma-delta base 3": {"base": 3.0},
    "if": {"neuron": "if", "timesteps": 8},
    "mt differential": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "snm": {"neuron": "snm", "timesteps": 6},
    "adaptive calibration": {"neuron": "if", "calibration": SpikeCalibration(adaptive=(0, 2))},
}
ACTIVATIONS = ("tanh", "elu", "silu", "leaky_relu")
DECISIONS = 60


def target(name: str) -> Target:
    """The target, or a skip that names what is missing."""
    missing = missing_packages(TARGETS[name])
    if missing:
        pytest.skip(f"not installed (Debian's packages): {' '.join(missing)}")
    return TARGETS[name]


@cache
def made(name: str) -> tuple[SpikingPolicy, Any]:
    """A policy and its observations (DECISIONS, …) float32, by the case's name."""
    if name == "picture":
        actor = dyadic_image_actor()
        return SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor))), image_walk(DECISIONS).astype(
            np.float32
        )
    if name in SETTINGS or name in ACTIVATIONS:
        own: dict[str, Any] = {} if name in SETTINGS else {"activation": Activation(name, 0.25)}  # pyright: ignore
        actor = random_actor(shape=(17,), widths=(64, 64), outputs=6, normalised=True, **own)
        return convert(actor, walk(300, (17,)), **SETTINGS.get(name, {})), walk(DECISIONS, (17,), seed=1)
    if name in GRAPHS:
        return stage_policy(name), graph_walk(DECISIONS)[:, 0]
    policy = SpikingPolicy.load(path(name))
    return policy, walk(DECISIONS, policy.observation_shape)


def check(name: str, processor: str, folder: Path, *flags: str) -> float:
    """Compare the actions on the processor with `policy.act`'s, to the bit; returns instructions per decision."""
    there = target(processor)
    policy, stream = made(name)
    policy.reset()
    expected = np.array([policy.act(obs) for obs in stream], np.float32).reshape(len(stream), -1)
    outcome = run(there, write_policy(policy, stream, folder), folder, flags or ("-O2", *EXACT))
    assert len(np.unique(expected)) > 3
    assert np.array_equal(outcome.actions.view(np.int32), expected.view(np.int32))
    return outcome.instructions


@pytest.mark.parametrize("processor", ["aarch64", "cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("name", ["sigma-delta", "if"])
def test_a_policy_acts_on_another_processor_as_here_to_the_bit(name: str, processor: str, tmp_path: Path) -> None:
    check(name, processor, tmp_path)


@pytest.mark.parametrize(("name", "processor"), [("mt differential", "cortex-m4"), ("picture", "cortex-m7"),
                                                 ("tanh", "cortex-m4"), ("lstm", "aarch64"), ("lstm", "cortex-m4"),
                                                 ("residual", "cortex-m7"),
                                                 ("td3-Pendulum-v1", "cortex-m7")])  # fmt: skip
def test_so_do_other_neurons_pictures_activations_and_graphs(name: str, processor: str, tmp_path: Path) -> None:
    check(name, processor, tmp_path)


@nightly
@pytest.mark.parametrize("processor", TARGETS)
@pytest.mark.parametrize("name", [*SETTINGS, *ACTIVATIONS, "picture", *GRAPHS, "td3-HalfCheetah-v5", "td3-Hopper-v5",
                                  "td3-Pendulum-v1", "qcfs-Walker2d-v5", "sac-finger-spin"])  # fmt: skip
def test_every_case_on_every_processor(name: str, processor: str, tmp_path: Path) -> None:
    check(name, processor, tmp_path)


@pytest.mark.parametrize("flags", [
    pytest.param(("-O3",), id="fused multiply-adds allowed"),
    pytest.param(("-Os", *EXACT), id="small", marks=nightly),
    pytest.param(("-O0", *EXACT), id="unoptimised", marks=nightly),
])  # fmt: skip
@pytest.mark.parametrize("processor", ["aarch64", "cortex-m4", pytest.param("cortex-m7", marks=nightly)])
def test_flags_do_not_change_the_bits(flags: tuple[str, ...], processor: str, tmp_path: Path) -> None:
    check("sigma-delta", processor, tmp_path, *flags)


def test_instructions_are_counted_as_they_are(tmp_path: Path) -> None:
    there = target("cortex-m7")
    loops = "\\n\\t".join(["1: subs %0, #1", "bne 1b"])
    (tmp_path / "contestant.h").write_text(f"""
#define CONTESTANT_DECISIONS 5
#define CONTESTANT_ACTIONS 1
static const float observations[5][1];
static void contestant_reset(void) {{}}
static void contestant_act(const float *obs, float *to) {{
    unsigned turns = 50000;
    __asm__ volatile("{loops}" : "+r"(turns) : : "cc");
    *to = *obs;
}}
""")
    outcome = run(there, (), tmp_path)
    assert outcome.instructions == pytest.approx(100_000, rel=0.002)
    assert outcome.actions.tolist() == [[0.0]] * 5


@pytest.mark.parametrize("source", [PLAIN_ANN, BLOCKED_ANN], ids=["plain", "blocked"])
@pytest.mark.parametrize("skip", [False, True])
def test_the_ann_beside_it_computes_the_actor(source: Path, skip: bool, tmp_path: Path) -> None:
    policy, stream = made("sigma-delta")
    files = write_ann(policy.actor, stream, tmp_path, skip, source)
    found = run(target("cortex-m7"), files, tmp_path).actions
    values = policy.actor.inputs(stream)
    for layer in policy.actor.layers:
        values = layer(values) if layer.activation is None else np.maximum(layer(values), 0)
    assert found == pytest.approx(values, abs=1e-4)


def test_a_pendulums_policy_takes_at_most_015_of_a_dense_anns_instructions(tmp_path: Path) -> None:
    there, (policy, _) = target("cortex-m7"), made("td3-Pendulum-v1")
    stream = np.asarray(policy.actor.collect("Pendulum-v1", steps=100, seed=1)[:100], np.float32)
    counts = [run(there, files, tmp_path / name).instructions
              for name, files in (("policy", write_policy(policy, stream, tmp_path / "policy")),
                                  ("ann", write_ann(policy.actor, stream, tmp_path / "ann")))]  # fmt: skip
    assert 0 < counts[0] < 0.15 * counts[1]


@nightly
@pytest.mark.parametrize("processor", ["cortex-m4", "cortex-m7"])
def test_half_cheetahs_policy_takes_at_most_035_of_a_dense_anns(
    processor: str, reference_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco")
    from snn_policy import load_actor

    there, actor = target(processor), load_actor(reference_dir / "tqc-HalfCheetah-v3.safetensors")
    stream = np.asarray(actor.collect("HalfCheetah-v5", steps=300, seed=1)[:300], np.float32)
    policy = convert(actor, actor.collect("HalfCheetah-v5", steps=2_000, seed=0))
    outcomes = [run(there, files, tmp_path / name, ("-O3", *EXACT)).instructions
                for name, files in (("policy", write_policy(policy, stream, tmp_path / "policy")),
                                    ("ann", write_ann(actor, stream, tmp_path / "ann")))]  # fmt: skip
    assert outcomes[0] < 0.35 * outcomes[1]


def test_a_program_that_faults_is_an_error_and_not_a_result(tmp_path: Path) -> None:
    (tmp_path / "contestant.h").write_text("""
#define CONTESTANT_DECISIONS 1
#define CONTESTANT_ACTIONS 1
static const float observations[1][1];
static void contestant_reset(void) {}
static void contestant_act(const float *obs, float *to) { *to = *obs; __asm__ volatile("udf"); }
""")
    with pytest.raises(RuntimeError, match=r"qemu-system-arm: .*fault"):
        run(target("cortex-m4"), (), tmp_path)


@pytest.mark.parametrize("processor", TARGETS)
def test_where_a_tool_is_missing_its_debian_package_is_named(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    listed = missing_packages(TARGETS[processor])
    assert any("gcc" in packages for packages in listed)
    assert any("qemu" in packages for packages in listed)
    with pytest.raises(pytest.skip.Exception, match="Debian's packages"):
        target(processor)
