"""The packed program that Python hands to C: the same fields on both sides, and no damaged one is ever run."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from snn_policy.engines.core import layout, library
from snn_policy.engines.core.build import SOURCES
from snn_policy.engines.core.engine import EventEngine, checked
from snn_policy.engines.core.layout import Layout, Writer
from snn_policy.engines.core.records import ACTIVATIONS
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import dyadic_actor, pruned, sigma_delta_neurons
from tests.stage_graphs import GRAPHS, graph_actor, walk
from tests.stage_networks import stage_network
from tests.test_core_parity import networks

RECORDS = {"snn_header": layout.HEADER, "snn_stage": layout.STAGE, "snn_connection": layout.CONNECTION}
KINDS = {"int64_t": np.int64, "int32_t": np.int32, "float": np.float32}
NASTY = (-(2**31), -2, -1, 0, 1, 2, 3, 17, 255, 4097, 65_537, 2**27, 2**31 - 1)


@pytest.mark.parametrize("name", RECORDS)
def test_both_sides_name_the_same_fields_in_the_same_order(name: str) -> None:
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "program.h").read_text(), flags=re.DOTALL)
    found = re.search(rf"typedef struct \{{([^}}]*)\}} {name};", text)
    assert found is not None
    fields = []
    for line in found[1].split(";"):
        kind, *names = re.findall(r"\w+", line) or [""]
        fields += [(entry, np.dtype(KINDS[kind])) for entry in names]
    assert fields == [(entry, RECORDS[name][entry]) for entry in RECORDS[name].names or ()]


def copied(blocks: Layout) -> Layout:
    return Layout(**{name: block.copy() for name, block in vars(blocks).items()})


def damaged(blocks: Layout, rng: np.random.Generator) -> Layout:
    """One or two fields changed, or a number of the parameters, or a block cut short."""
    found = copied(blocks)
    for _ in range(rng.integers(1, 3)):
        block = (found.header, found.stages, found.connections)[rng.integers(3)]
        record, field = rng.integers(len(block)), rng.choice(block.dtype.names or ())
        if block.dtype[field] == np.float32:
            block[record][field] = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e30])
        elif rng.random() < 0.5:
            block[record][field] = rng.choice(NASTY)
        else:
            limits = np.iinfo(np.int32)
            block[record][field] = np.clip(int(block[record][field]) + rng.integers(-3, 4), limits.min, limits.max)
    if rng.random() < 0.2:
        place = rng.integers(len(found.parameters))
        found.parameters[place] = rng.choice([np.nan, np.inf, -np.inf, -1, 0, 1e-45, 1e38])
    if rng.random() < 0.1:
        return replace(found, stages=found.stages[:-1])
    if rng.random() < 0.1:
        length = rng.integers(len(found.parameters))
        return replace(found, parameters=found.parameters[:length])
    if len(found.indices) and rng.random() < 0.5:
        place = rng.integers(len(found.indices))
        found.indices[place] = rng.choice([*NASTY, found.indices[place] + 1, found.indices[place] - 1])
    if len(found.indices) and rng.random() < 0.1:
        return replace(found, indices=found.indices[: rng.integers(len(found.indices))])
    return found


def run_if_accepted(core: library.Core, network: Any, blocks: Layout, stream: Any) -> bool:
    """Whether the check let it pass; then it must run."""
    try:
        program = checked(core, blocks)
    except ValueError:
        return False
    header = blocks.header[0]
    trains = max(int(header["timesteps"]), int(header["slots"]))
    if int(header["row_size"]) * trains > 2**22 or int(header["state_size"]) > 2**22:
        return True  # sound, but more memory than a test should take
    engine = EventEngine(network, compiled=core)
    engine.layout, engine.program = blocks, program
    engine.row_size, engine.state_size = int(header["row_size"]), int(header["state_size"])
    if engine.state_size < sum(memory.shape[1] for memory in network.initial_state(1)):
        return True
    if int(blocks.stages["width"][0]) != stream[0].size // len(stream[0]) or int(header["action_size"]) != (
        1 if network.actor.discrete else network.actor.head.outputs
    ):
        return True  # the session's own buffers are of the network's sizes
    session = engine.session(2)
    for batch in stream[:2]:
        session.obs[...] = batch[:2].reshape(2, -1)
        session.run()
    return True


def graph_networks() -> Iterator[tuple[str, SpikingNetwork, Any]]:
    """Every structure, with gates, norms and activations."""
    for kind in GRAPHS:
        yield kind, stage_network(graph_actor(kind)), walk(4, 4)


def damage_everything(core: library.Core, examples: int) -> int:
    """Damage every kind of program in so many ways; returns how many still passed the check."""
    rng, passed = np.random.default_rng(0), 0
    for _, network, stream in chain(networks(), graph_networks()):
        blocks = Writer(network, 16).layout()
        for _ in range(examples):
            passed += run_if_accepted(core, network, damaged(blocks, rng), stream)
    return passed


def test_no_damaged_program_crashes() -> None:
    assert damage_everything(library.core(), examples=60) > 0


@pytest.mark.parametrize(
    ("block", "field", "value"),
    [("header", "row_size", 16), ("header", "state_size", 3), ("header", "parameter_count", 10), ("header", "age", -1),
     ("stages", "bias", 2**31 - 1), ("stages", "neurons", -5), ("stages", "memory", 10**6), ("stages", "digits", 0),
     ("stages", "residual", 10**6), ("stages", "residual", -7),
     ("stages", "alpha", 2), ("stages", "alpha", -1),
     ("connections", "weights", 2**30), ("connections", "stride", 0), ("connections", "source", 7),
     ("connections", "inputs", 9), ("connections", "accumulator", -1), ("connections", "kind", 5)],
)  # fmt: skip
def test_what_does_not_fit_together_is_one_error(block: str, field: str, value: int) -> None:
    network = next(network for name, network, _ in networks() if name == "sigma-delta base 2.0, carrying")
    blocks = copied(Writer(network, 16).layout())
    getattr(blocks, block)[field][1 if block == "stages" else 0] = value
    with pytest.raises(ValueError, match="does not fit the compiled core"):
        checked(library.core(), blocks)


def packed_program() -> Layout:
    """A program whose second connection is sparse, in blocks of 16."""
    actor = pruned(dyadic_actor(widths=(40, 512), outputs=3), 0.1, 16)
    blocks = copied(Writer(SpikingNetwork(actor, sigma_delta_neurons(actor)), 16).layout())
    assert blocks.connections["kind"].tolist() == [layout.LINEAR, layout.SPARSE, layout.LINEAR]
    assert blocks.connections["block"].tolist() == [0, 16, 0]
    checked(library.core(), blocks)
    return blocks


@pytest.mark.parametrize(
    ("field", "value"),
    [("starts", -1), ("starts", 10**6), ("columns", -1), ("columns", 2**31 - 1), ("weights", 2**30), ("weights", -1),
     ("block", 0), ("block", 2), ("block", 64), ("block", -16), ("kind", 3), ("inputs", 41)],
)  # fmt: skip
def test_a_sparse_connection_that_does_not_fit_is_one_error(field: str, value: int) -> None:
    blocks = packed_program()
    blocks.connections[field][1] = value
    with pytest.raises(ValueError, match="does not fit the compiled core"):
        checked(library.core(), blocks)


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("place", ["first start", "a start", "last start", "first column", "last column", "cut"])
def test_indices_that_lead_elsewhere_are_one_error(place: str, value: int) -> None:
    blocks = packed_program()
    sparse, size = blocks.connections[1], int(blocks.header["row_size"][0])
    starts = blocks.indices[int(sparse["starts"]) :][: int(sparse["inputs"]) + 1]
    columns = blocks.indices[int(sparse["columns"]) :][: int(starts[-1])]
    sound = 0 <= value <= size - 16
    if place == "cut":
        blocks = replace(blocks, indices=blocks.indices[:-1])
        sound = False
    elif "start" in place:
        which = {"first start": 0, "a start": 20, "last start": -1}[place]
        starts[which] = value
        ordered = bool((np.diff(starts.astype(np.int64)) >= 0).all()) and starts[0] == 0
        sound = ordered and value <= len(columns)
    else:
        columns[0 if place == "first column" else -1] = value
    if sound:
        checked(library.core(), blocks)
        return
    with pytest.raises(ValueError, match="does not fit the compiled core"):
        checked(library.core(), blocks)


def damaged_graph(kind: str, block: str, field: str, record: int, value: float) -> Layout:
    blocks = copied(Writer(stage_network(graph_actor(kind)), 16).layout())
    checked(library.core(), blocks)
    getattr(blocks, block)[field][record] = value
    return blocks


@pytest.mark.parametrize(
    ("kind", "block", "field", "record", "value"),
    [
        ("lstm", "stages", "cell", 1, 4), ("lstm", "stages", "cell", 1, -1), ("lstm", "stages", "cell", 1, 2),
        ("lstm", "stages", "remembered", 1, -1), ("lstm", "stages", "remembered", 1, 10**6),
        ("lstm", "stages", "z_width", 1, 31), ("lstm", "stages", "z_width", 1, 10**6),
        ("lstm", "stages", "z_width", 2, 0), ("lstm", "stages", "second", 1, 8), ("lstm", "stages", "norm", 1, 1),
        ("gru", "stages", "second", 1, 23), ("gru", "stages", "second", 1, 33), ("gru", "stages", "second", 1, -1),
        ("gru", "stages", "second", 1, 2**31 - 1), ("gru", "stages", "cell_start", 1, -2),
        ("gru", "stages", "cell_start", 1, 10**6), ("gru", "stages", "offset", 1, 10**6),
        ("gru", "stages", "width", 1, 2**30),
        ("gru", "connections", "into", 1, 1), ("gru", "connections", "into", 0, -1),
        ("gru", "connections", "into", 1, 10**6), ("gru", "connections", "source", 1, 2),
        ("gru", "connections", "source", 1, -1), ("gru", "connections", "delayed", 1, 2),
        ("gru", "connections", "delayed", 1, -1), ("gru", "connections", "delayed", 1, 0),
        ("gru", "connections", "accumulator", 1, 10**6), ("gru", "connections", "kind", 1, 1),
        ("gru", "connections", "kind", 1, 3),
        ("elman", "header", "slots", 0, 0), ("elman", "header", "slots", 0, 5), ("elman", "stages", "slot", 1, 1),
        ("elman", "stages", "slot", 2, 0), ("elman", "stages", "slot", 0, 2), ("elman", "stages", "slot", 2, -1),
        ("concatenation", "stages", "slot", 2, 0), ("concatenation", "stages", "slot", 3, 2),
        ("residual", "stages", "norm", 2, 4), ("residual", "stages", "norm", 2, -1),
        ("residual", "stages", "norm_weight", 2, -1), ("residual", "stages", "norm_weight", 2, 10**6),
        ("residual", "stages", "epsilon", 2, 0), ("residual", "stages", "epsilon", 2, np.nan),
        ("residual", "stages", "epsilon", 2, np.inf),
        ("residual", "connections", "columns", 1, -1), ("residual", "connections", "columns", 1, 10**6),
        ("residual", "connections", "delayed", 1, 1), ("residual", "connections", "source", 1, 2),
        ("residual", "connections", "kind", 1, 4),
        ("gated", "stages", "other_activation", 1, len(ACTIVATIONS)), ("gated", "stages", "other_activation", 1, -1),
        ("gated", "stages", "other_activation", 1, 5), ("gated", "stages", "second", 1, 7),
        ("history", "connections", "delayed", 0, 1), ("history", "connections", "into", 0, 1),
    ],
)  # fmt: skip
def test_parts_of_a_graph_that_do_not_fit_are_one_error(
    kind: str, block: str, field: str, record: int, value: float
) -> None:
    with pytest.raises(ValueError, match="does not fit the compiled core"):
        checked(library.core(), damaged_graph(kind, block, field, record, value))


@pytest.mark.parametrize("value", [value for value in NASTY if not 0 <= value < 8])
def test_selected_entries_that_are_not_there_are_one_error(value: int) -> None:
    blocks = copied(Writer(stage_network(graph_actor("residual")), 16).layout())
    for place in range(8):
        own = copied(blocks)
        own.indices[own.connections["columns"][1] + place] = value
        with pytest.raises(ValueError, match="does not fit the compiled core"):
            checked(library.core(), own)


@pytest.mark.parametrize("field", ["cell", "norm"])
def test_membranes_have_plain_cells_only(field: str) -> None:
    network = next(network for name, network, _ in networks() if name.startswith("if rate"))
    blocks = copied(Writer(network, 16).layout())
    blocks.stages[field][1] = 1
    with pytest.raises(ValueError, match="does not fit the compiled core"):
        checked(library.core(), blocks)
