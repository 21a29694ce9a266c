"""When the core keeps a sparse layer as blocks: never where it was measured to be much slower than dense rows."""

import json

import pytest

from benchmarks.sparse_weights import MEASURED, taken
from snn_policy.ann.layers import Linear
from snn_policy.engines.core.blocks import in_order, pack
from tests.actors import pruned, random_actor

ROWS = json.loads(MEASURED.read_text())["rows"]


def test_what_is_taken_is_within_a_fifth_of_the_faster_from_256_outputs_on() -> None:
    assert {row["width"] for row in ROWS} >= {64, 256, 512}
    for row in ROWS:
        assert row["taken"] == taken(row["width"], row["block"], row["density"])
        way, other = ("blocks", "in_order") if row["taken"] == "blocks" else ("in_order", "blocks")
        if row["width"] >= 256:
            assert row[way] <= 1.2 * row[other], row


@pytest.mark.parametrize(("width", "block", "density", "way"), [
    (64, 16, 0.1, "rows"), (256, 1, 0.1, "rows"), (256, 16, 0.2, "blocks"), (256, 16, 0.5, "rows"),
    (512, 4, 0.1, "blocks"), (512, 16, 0.5, "blocks"), (512, 1, 0.05, "rows"), (1024, 16, 0.3, "blocks"),
])  # fmt: skip
def test_blocks_are_taken_where_outputs_are_many_and_blocks_are_long_and_few(
    width: int, block: int, density: float, way: str
) -> None:
    assert taken(width, block, density) == way


@pytest.mark.parametrize(("density", "expected"), [(0.0, True), (0.5, True), (0.7, True), (0.8, False), (1.0, False)])
def test_a_layer_is_sparse_below_three_quarters(density: float, expected: bool) -> None:
    whole = random_actor(widths=(200, 200))
    layer, dense = pruned(whole, density, seed=3).layers[1], whole.layers[1]
    assert isinstance(layer, Linear)
    assert isinstance(dense, Linear)
    assert in_order(layer) == expected
    assert not in_order(dense)
    assert pack(layer.weight).bytes <= layer.weight.nbytes * 1.3
