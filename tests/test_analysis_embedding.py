"""States in two dimensions: the same states lie together, others apart."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.analysis.state_embedding import embedding, tsne
from tests.actors import random_actor
from tests.synthetic import trace


def states(shift: float = 0.0, seed: int = 0) -> list:
    random = np.random.default_rng(seed)
    axes = np.array([[3, 0, 0, 0.1], [0, 1, 0, 0]])
    return [
        trace(np.zeros(200), observations=(random.normal(size=(200, 2)) @ axes + shift).astype(np.float32))
        for _ in range(4)
    ]


@pytest.fixture
def actor() -> Actor:
    return random_actor(shape=(4,))


def test_a_policy_that_visits_the_anns_states_has_a_hundredth_of_them_outside(actor: Actor):
    found = embedding(actor, states(), states(seed=1)).summary
    assert found["outside"].mean == pytest.approx(0.01, abs=0.01)
    assert found["distance"].mean == pytest.approx(found["ann_distance"].mean, rel=0.1)


@pytest.mark.parametrize(("shift", "outside"), [(2.0, 0.1), (6.0, 0.9), (30.0, 1.0)])
def test_the_farther_its_states_the_more_lie_outside(actor: Actor, shift: float, outside: float):
    assert embedding(actor, states(), states(shift)).summary["outside"].mean >= outside


def test_the_axes_hold_the_variance_and_entries_that_never_change_have_no_place(actor: Actor):
    found = embedding(actor, states(), states())
    assert found.explained.sum() == pytest.approx(1, abs=1e-6)
    assert [places.shape for places in found.ann] == [(200, 2)] * 4
    assert np.concatenate(found.ann).std(axis=0) == pytest.approx([1, 1], rel=0.01)


def test_observations_that_never_change_are_refused(actor: Actor):
    with pytest.raises(ValueError, match="never change"):
        embedding(actor, [trace(np.zeros(5), observations=np.ones((5, 4), np.float32))], [])
    with pytest.raises(ValueError, match="no episodes"):
        embedding(actor, [], states())


def test_tsne_places_states_of_both_policies(actor: Actor, monkeypatch: pytest.MonkeyPatch):
    class Tsne:
        def __init__(self, perplexity: float, random_state: int) -> None:
            assert random_state == 0
            assert perplexity == 30

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    manifold = SimpleNamespace(TSNE=Tsne)
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace(manifold=manifold))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", manifold)
    ann, spiking = tsne(actor, states(), states(30.0), points=60)
    assert ann.shape == spiking.shape == (60, 2)
    assert ann.max() < spiking.min()


@pytest.mark.parametrize(("length", "perplexity"), [(200, 30), (8, 21), (1, 7 / 3)])
def test_tsne_asks_for_fewer_neighbours_where_states_are_few(
    actor: Actor, length: int, perplexity: float, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    class Tsne:
        def __init__(self, perplexity: float, random_state: int) -> None:
            asked.append(perplexity)

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    manifold = SimpleNamespace(TSNE=Tsne)
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace(manifold=manifold))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", manifold)
    short = [trace(np.zeros(length), observations=episode.observations[:length]) for episode in states()]
    tsne(actor, short, short)
    assert asked == [pytest.approx(perplexity)]


def test_tsne_says_what_it_needs(actor: Actor):
    try:
        import sklearn  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
            tsne(actor, states(), states())
    else:
        ann, spiking = tsne(actor, states(), states(30.0), points=60)
        assert ann.shape == spiking.shape == (60, 2)
