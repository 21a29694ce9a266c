"""The compiled core against the NumPy definition, to the bit, on dyadic networks; the same bits from every copy.

Run as a program (`python -m tests.test_core_parity LIBRARY`), it goes through all of it with a given library: that is
how the sanitizers are run.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikeCalibration, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.engines.core import build, library
from snn_policy.engines.core.engine import EventEngine
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    ALL_ACTIVATIONS,
    CODINGS,
    HEAD_KINDS,
    IMAGE,
    MODELS,
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    membrane_neurons,
    pruned,
    random_actor,
    sigma_delta_neurons,
    walk,
)
from tests.stage_networks import dyadic_walk, exact_networks

ROWS, DECISIONS = 11, 30
EXACT = [function for function in ALL_ACTIVATIONS if function.name in ("relu", "leaky_relu")]
"""What keeps dyadic values dyadic."""
CALIBRATIONS = (
    SpikeCalibration(1),
    SpikeCalibration(3),
    SpikeCalibration(2, rule="literal"),
    SpikeCalibration(1, simulation_steps=11),
    SpikeCalibration(adaptive=(0, 3)),
)


def networks() -> Iterator[tuple[str, SpikingNetwork, Any]]:
    """(what it is, the network, its observations (decisions, rows, *shape)): every neuron, coding, stage and head."""
    stream = dyadic_observations(ROWS * DECISIONS).reshape(ROWS, DECISIONS, 4).swapaxes(0, 1)
    for activation in EXACT:
        for kind in ("clip", "argmax"):
            actor = dyadic_actor(activation=activation, kind=kind, widths=(70, 33), outputs=6)  # pyright: ignore
            yield f"sigma-delta {activation.name} {kind}", SpikingNetwork(actor, sigma_delta_neurons(actor)), stream
    actor = dyadic_actor(widths=(70, 33), outputs=6)
    for base in (3.0, 4.0):
        yield f"sigma-delta base {base}", SpikingNetwork(actor, sigma_delta_neurons(actor, base=base)), stream
    for base in (2.0, 4.0):
        neurons = sigma_delta_neurons(actor, base=base, alpha=1.0)
        yield f"sigma-delta base {base}, carrying", SpikingNetwork(actor, neurons), stream
    for model in MODELS:
        for coding in CODINGS:
            for residual in ("bounded", "plain"):
                neurons = membrane_neurons(actor, model=model, coding=coding, residual=residual,
                                           timesteps=8 if coding == "rate" else 2)  # fmt: skip
                yield f"{model} {coding} {residual}", SpikingNetwork(actor, neurons), stream
    for calibration in CALIBRATIONS:
        neurons = membrane_neurons(actor, calibration=calibration)
        yield f"if {calibration}", SpikingNetwork(actor, neurons), stream
    for block, density in ((1, 0.05), (4, 0.1), (8, 0.1), (16, 0.2), (32, 0.3)):
        sparse = pruned(dyadic_actor(widths=(70, 513), outputs=6), density, block)
        yield f"sigma-delta, blocks of {block}", SpikingNetwork(sparse, sigma_delta_neurons(sparse)), stream
    for model in MODELS:
        neurons = membrane_neurons(sparse, model=model, timesteps=4)
        yield f"{model}, blocks of 32", SpikingNetwork(sparse, neurons), stream
    single = dyadic_actor(widths=())
    yield "sigma-delta, no hidden layer", SpikingNetwork(single, sigma_delta_neurons(single)), stream
    pictures = dyadic_image_actor()
    images = image_walk(2 * DECISIONS).reshape(DECISIONS, 2, *IMAGE).astype(np.float32)
    yield "sigma-delta, images", SpikingNetwork(pictures, sigma_delta_neurons(pictures)), images
    carrying = sigma_delta_neurons(pictures, alpha=1.0)
    yield "sigma-delta, images, carrying", SpikingNetwork(pictures, carrying), images
    for model in MODELS:
        neurons = membrane_neurons(pictures, model=model, timesteps=4)
        yield f"{model}, images", SpikingNetwork(pictures, neurons), images
    for name, network in exact_networks():
        yield f"graph: {name}", network, dyadic_walk(DECISIONS, ROWS)


def check_parity(network: SpikingNetwork, stream: Any, core: library.Core) -> None:
    """Actions, memories and costs of both are the same, decision after decision from their own states."""
    engine, rows = EventEngine(network, compiled=core), stream.shape[1]
    session, state = engine.session(rows), network.initial_state(rows)
    for batch in stream:
        action, state, decision = network.decide(batch, state)
        assert session.accept(batch)
        assert session.run()
        own = session.decision()
        assert own is not None
        assert np.array_equal(session.actions_like(batch), action)
        assert np.array_equal(session.state[0], state[0])
        assert np.array_equal(session.state[-1], state[-1]) or not hasattr(state, "residual")
        for name in ("spikes", "synaptic_operations", "multiply_accumulates", "iterations", "error_spikes"):
            assert np.array_equal(getattr(own, name), getattr(decision, name)), name
        assert (session.events <= own.spikes).all()
        assert ((session.events > 0) == (own.spikes > 0)).all()


NETWORKS = {name: (network, stream) for name, network, stream in networks()}


@pytest.mark.parametrize("name", NETWORKS)
def test_dyadic_networks_are_equal_to_the_definition_to_the_bit(name: str) -> None:
    check_parity(*NETWORKS[name], library.core())


def copies() -> list[library.Core]:
    level = library.VARIANT_NAMES.index(library.core().variant)
    return [library.load(build.SOURCES / build.LIBRARY, name) for name in library.VARIANT_NAMES[: level + 1]]


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", [*ALL_ACTIVATIONS, Activation("elu", 1.0)], ids=lambda a: a.name)
def test_every_copy_gives_the_same_bits_on_real_weights(activation: Any, kind: Any) -> None:
    actor = random_actor(activation=activation, kind=kind, widths=(70, 33), outputs=6, normalised=True)
    neurons: list[Any] = [sigma_delta_neurons(actor), sigma_delta_neurons(actor, alpha=0.3)]
    if activation == RELU:
        neurons += [membrane_neurons(actor, model=model, coding=coding, timesteps=7)
                    for model in MODELS for coding in CODINGS]  # fmt: skip
    for neuron in neurons:
        sessions = [EventEngine(SpikingNetwork(actor, neuron), compiled=core).session(5) for core in copies()]
        for batch in walk(200).reshape(40, 5, 11):
            for session in sessions:
                session.obs[...] = batch
                assert session.run()
            for session in sessions[1:]:
                assert np.array_equal(session._actions, sessions[0]._actions)
                assert np.array_equal(session._memory, sessions[0]._memory)
                assert np.array_equal(session._counts, sessions[0]._counts)


def test_an_observation_that_is_not_finite_touches_nothing() -> None:
    actor = random_actor()
    session = EventEngine(SpikingNetwork(actor, sigma_delta_neurons(actor))).session(3)
    session.accept(walk(3))
    assert session.run()
    before = [buffer.copy() for buffer in session._buffers[1:4]]
    for bad in (np.nan, np.inf, -np.inf, 1e31):
        session.obs[1, 2] = bad
        assert not session.run()
        assert all(np.array_equal(now, then) for now, then in zip(session._buffers[1:4], before, strict=True))


def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Address and undefined behaviour, over every network above and the damaged programs of test_core_program."""
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O0")
    try:
        target = build.build(tmp_path / build.LIBRARY, flags)
        runtime = subprocess.run([*build.compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True)
    except build.NoCompilerError as reason:
        pytest.skip(f"no sanitizers: {reason}")
    preload = runtime.stdout.strip()
    if "/" not in preload:
        pytest.skip("no shared address sanitizer beside this compiler")
    environment = {**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0",
                   "PYTHONPATH": str(Path(__file__).resolve().parents[1])}  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "tests.test_core_parity", str(target)], env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def go_through_everything(path: Path) -> None:
    from tests.test_core_program import damage_everything, graph_networks

    fastest = library.load(path)
    for core in {case.variant: case for case in (library.load(path, "plain"), fastest)}.values():
        for _, network, stream in networks():
            check_parity(network, stream[:3, :4], core)
        for _, network, stream in graph_networks():
            session = EventEngine(network, compiled=core).session(stream.shape[1])
            for batch in stream:
                assert session.accept(batch)
                assert session.run()
    damage_everything(fastest, examples=40)


@pytest.mark.parametrize("outputs", [112, 128, 160, 256])
@pytest.mark.parametrize("settings", [{}, {"neuron": "if", "timesteps": 8}], ids=["sigma-delta", "if"])
def test_rows_of_wide_layers_act_as_they_do_alone(outputs: int, settings: dict[str, Any]) -> None:
    """Weights of 128 outputs and more have a stride of their own; no row's bits may depend on it or on the batch."""
    actor = random_actor(widths=(outputs, outputs - 3), outputs=6)
    policy, stream = convert(actor, walk(300), **settings), walk(130).reshape(10, 13, -1)
    policy.reset(num_envs=13)
    together = np.stack([policy.act(obs) for obs in stream])
    for row in range(13):
        policy.reset()
        assert np.array_equal(together[:, row], np.stack([policy.act(obs[row]) for obs in stream]))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.bool_])
def test_the_short_way_of_one_row_is_the_long_way(kind: Any) -> None:
    policy = convert(random_actor(widths=(40, 33), outputs=6), walk(300))
    session = EventEngine(policy.network).session(1)
    for obs in (walk(30) * 2).astype(kind):
        assert session.accept(obs)
        assert session.run()
        expected = session.actions_like(obs)
        action = policy.act(obs)
        assert action.dtype == np.float32
        assert np.array_equal(action, expected)
    one = walk(1)[0]
    assert not np.shares_memory(policy.act(one), policy.act(one))


@pytest.mark.parametrize("wrong", [np.full(11, np.nan), np.full(11, 1e31), np.zeros(10), np.full(11, "a")])
def test_the_short_way_leaves_refusals_to_the_long_way(wrong: Any) -> None:
    policy = convert(random_actor(widths=(40, 33), outputs=6), walk(300))
    policy.act(walk(1)[0])
    before = policy.state
    with pytest.raises(ValueError, match="observation"):
        policy.act(wrong)
    assert all(np.array_equal(own, kept) for own, kept in zip(policy.state, before, strict=True))


if __name__ == "__main__":
    go_through_everything(Path(sys.argv[1]))
