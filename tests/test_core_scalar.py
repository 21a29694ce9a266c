"""The core for processors that have no vectors: its shorter loops act as the others, to the bit, and count alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bare_metal import write_sparse_ann
from benchmarks.plain_c import packed, plain_ann, sparse_ann
from snn_policy import SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.bench.baselines import LeftOut
from snn_policy.protocol import LARGEST_OBSERVATION
from tests.actors import pruned, random_actor, walk
from tests.compiled_policy import CompiledPolicy, counted

SCALAR = ("-O2", "-DSNN_SCALAR", "-U__AVX2__", "-U__AVX512F__")
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "nothing carried": {"alpha": 0.0},
    "carried in some stages": {"alpha": (0.0, 0.5, 1.0)},
    "values afresh": {"predictor": 0},
    "changes only": {"predictor": 1},
    "base 3": {"base": 3.0},
    "few digits": {"digits": 1},
}


def same_bits(policy: SpikingPolicy, compiled: CompiledPolicy, stream: Any) -> None:
    """Compare actions and counts of the stream's decisions, from a reset of both."""
    actions = []
    policy.reset()
    compiled.reset()
    for obs in stream:
        expected = np.asarray(policy.act(obs), np.float32)
        found = compiled.act(obs)[: expected.size]
        assert np.array_equal(found.view(np.int32), expected.view(np.int32))
        actions.append(expected)
    assert compiled.counts() == counted(policy)
    assert len(np.unique(actions)) > len(stream)


@pytest.mark.parametrize("case", CASES)
def test_neurons_looked_at_one_by_one_act_as_those_side_by_side(case: str, tmp_path: Path) -> None:
    actor = random_actor(widths=(70, 33), outputs=6, normalised=True)
    policy = convert(actor, walk(400), **CASES[case])
    same_bits(policy, CompiledPolicy(policy, tmp_path, *SCALAR), walk(200, seed=1))


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_blocks_are_added_four_sums_at_a_time_to_the_same_bits(block: int, tmp_path: Path) -> None:
    actor = pruned(random_actor(widths=(70, 66), outputs=6), 0.2, block)
    assert packed(actor.layers[1], vectors=False) is not None  # pyright: ignore[reportArgumentType]
    policy = convert(actor, walk(400))
    same_bits(policy, CompiledPolicy(policy, tmp_path, *SCALAR), walk(200, seed=1))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpikingPolicy, CompiledPolicy]:
    """A policy and its compiled twin, which every test begins anew."""
    policy = convert(random_actor(widths=(40, 30), outputs=6), walk(400))
    return policy, CompiledPolicy(policy, tmp_path_factory.mktemp("small"), *SCALAR)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e6, 1e20, 1e30])
def test_observations_of_any_size_act_alike(size: float, small: tuple[SpikingPolicy, CompiledPolicy]) -> None:
    stream = walk(60, seed=2)
    stream[20:40] *= np.float32(size)
    same_bits(*small, stream.clip(-LARGEST_OBSERVATION, LARGEST_OBSERVATION))


@pytest.mark.parametrize("block", [1, 8, 16, 32])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_the_sparse_ann_in_plain_c_is_the_ann(block: int, density: float) -> None:
    actor = pruned(random_actor(widths=(64, 70), outputs=6), density, block)
    sparse, dense = sparse_ann(actor), plain_ann(actor, skip=False)
    for obs in walk(20):
        assert np.allclose(sparse(obs), dense(obs), atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "silu", "elu"])
def test_an_ann_that_plain_c_has_not_is_left_out_by_name(activation: str, tmp_path: Path) -> None:
    actor = random_actor(activation=Activation(activation))  # pyright: ignore[reportArgumentType]
    with pytest.raises(LeftOut, match="linear layers and ReLU only"):
        sparse_ann(actor)
    with pytest.raises(ValueError, match="linear layers and ReLU only"):
        write_sparse_ann(actor, walk(5), tmp_path)
