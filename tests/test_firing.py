"""The IF neuron and the sigma-delta digit are spelled once in Python; what must differ is held to them, to the bit."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import IF
from snn_policy.calibration.encode_sequence import encode_with_numpy
from snn_policy.exporting.sigma_delta import HALF, sent_table
from snn_policy.spiking.firing import fire_if
from snn_policy.spiking.neurons import (
    Membrane,
    MembraneNeurons,
    SigmaDeltaNeurons,
    sigma_delta_spike,
    step_rate,
)
from snn_policy.spiking.spike_calibration import simulate

ROOT = Path(__file__).resolve().parents[1]
WIDTH, ROWS = 7, 5


def drive(steps: int, seed: int = 0) -> Any:
    """(steps, rows, neurons) of quarters, so that ties with the threshold occur."""
    return np.round(4 * np.random.default_rng(seed).normal(size=(steps, ROWS, WIDTH))).astype(np.float32) / 4


def threshold() -> Any:
    """One neuron is dead."""
    return np.array([0.0, 0.25, 0.5, 0.5, 1.0, 1.0, 2.0], np.float32)


def by_definition(inputs: Any, start: Any, theta: Any, steps: int) -> tuple[list[Any], Any]:
    """Outputs of every step, and the last state, of IF neurons."""
    neurons = MembraneNeurons(IF(timesteps=steps, alpha=(0.0,), alpha_clip=0.5), (theta,))
    state, outputs = Membrane(start, 0 * start), []
    for x in inputs:
        o, state = step_rate(x, state, theta, neurons)
        outputs.append(o)
    return outputs, state


def sources() -> dict[str, str]:
    places = (ROOT / "snn_policy").rglob("*.py")
    return {str(place.relative_to(ROOT / "snn_policy")): place.read_text() for place in places}


def test_only_one_module_compares_a_potential_with_its_threshold():
    spelled = re.compile(r"^(?!\s*(#|\"\"\"|.*1\[v)).*(?<!\.)\bv > threshold\b", re.MULTILINE)
    assert {name for name, text in sources().items() if spelled.search(text)} == {"spiking/firing.py"}


def test_only_one_module_computes_a_digit():
    spelled = re.compile(r"1 / powers\[1\]|\.sign\(v\)")
    assert [name for name, text in sources().items() if spelled.search(text)] == ["spiking/neurons.py"]


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_simulated_pass_of_calibration_is_the_neuron_to_the_bit(steps: int):
    inputs, theta = drive(steps), threshold()
    start = np.broadcast_to(theta / 2, (ROWS, WIDTH)).copy()
    outputs, state = by_definition(inputs, start, theta, steps)
    found = simulate(np.moveaxis(inputs, 0, 1), start, theta, steps)
    assert np.array_equal(found.v, state.v)
    assert np.array_equal(found.spikes, sum(o != 0 for o in outputs))
    assert not found.spikes[:, 0].any()


@pytest.mark.parametrize("initial", [0.25, 1.0, 2.0])
def test_a_directly_trained_layer_is_the_neuron_to_the_bit(initial: float):
    torch = pytest.importorskip("torch")
    from snn_policy.offline.spiking_actor import IntegrateAndFire

    layer, inputs = IntegrateAndFire(6, initial), drive(6, seed=1)
    theta: Any = np.full(WIDTH, layer.log_threshold.exp().item(), np.float32)
    outputs, _ = by_definition(inputs, np.broadcast_to(theta / 2, (ROWS, WIDTH)), theta, 6)
    assert np.array_equal(layer(torch.tensor(inputs)).detach().numpy(), np.stack(outputs))


def test_the_trained_layers_gradient_is_the_triangle():
    torch = pytest.importorskip("torch")
    from snn_policy.offline.spiking_actor import _Fire

    v = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0], requires_grad=True)
    o: Any = _Fire.apply(v, torch.tensor(1.0))
    o.sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    assert o.tolist() == fire_if(v.detach().numpy(), np.float32(1)).tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("digits", [1, 4, 6])
def test_the_exporters_tables_hold_what_the_digits_tell(digits: int):
    width = np.ones(1, np.float32)
    neurons = SigmaDeltaNeurons((width,), (width,), 0 * width, (digits,))
    index = np.random.default_rng(0).integers(-HALF // 64, HALF // 64, size=400)
    v, told = (index / 8).astype(np.float32), np.zeros(400, np.float32)
    for _ in range(digits):
        s = sigma_delta_spike(v, np.ones_like(v), neurons.powers)
        v, told = v - s, told + s
    assert np.array_equal(sent_table(neurons, digits)[index], 4 * told)


@pytest.mark.parametrize("base", [2.0, 3.0, 1.5])
def test_recordings_are_encoded_alike_with_and_without_the_core(base: float):
    library = pytest.importorskip("snn_policy.engines.core.library")
    if not library.available():
        pytest.skip("the core is not built")
    rng, quantum = np.random.default_rng(0), np.array([0.0, 0.125, 0.3, 1.0], np.float32)
    h, predictor = rng.normal(size=(300, 4)).astype(np.float32), np.array([1, 1, 0, 1], np.float32)
    powers = SigmaDeltaNeurons((quantum,), (predictor,), 0 * quantum, (4,), base).powers
    found = []
    for encode in (library.encode_sequence, encode_with_numpy):
        memory, sent, spikes = np.zeros(4, np.float32), np.zeros_like(h), np.zeros(4, np.int64)
        encode(h, quantum, predictor, memory, 4, powers, sent, spikes)
        found.append((memory, sent, spikes))
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    assert found[0][2][0] == 0
    assert found[0][2][1:].min() > 0
