"""Masked arrays: what is masked as missing is refused wherever observations are taken; all else is an array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, OnnxPolicy, SpikingPolicy, compress, convert
from snn_policy.calibration.episodes import EpisodeRecording
from snn_policy.calibration.recordings import as_recordings
from snn_policy.observations import finite_number, finite_observation
from snn_policy.protocol import KeyedShape, as_batch, as_mask
from tests.actors import dyadic_image_actor, image_walk, random_actor, walk
from tests.test_td3bc import transitions

ROWS = walk(400, (5,))


class Marked(np.ndarray):
    """An array of another library with a mask of its own, as astropy's are."""

    mask: Any = True


def masked(values: Any, every: int = 7) -> Any:
    values = np.asarray(values)
    return np.ma.masked_array(values, np.arange(values.size).reshape(values.shape) % every == every - 1)


@pytest.fixture(scope="module")
def actor() -> Actor:
    return random_actor(shape=(5,), widths=(16, 16))


@pytest.fixture(scope="module")
def policy(actor: Actor) -> SpikingPolicy:
    return convert(actor, ROWS)


@pytest.fixture(scope="module")
def exported(policy: SpikingPolicy, tmp_path_factory: pytest.TempPathFactory) -> OnnxPolicy:
    directory = tmp_path_factory.mktemp("exported")
    policy.export_onnx(directory)
    return OnnxPolicy(directory)


ONE = masked(ROWS[0], 5)
BATCHES: dict[str, Any] = {
    "one": ONE,
    "a batch of one": ONE[None],
    "several": masked(ROWS[:4]),
    "integers": np.ma.masked_equal(np.arange(5), 3),
    "a list of them": [ONE, masked(ROWS[1], 5)],
    "in lists": [[masked(ROWS[0][:2], 2)[0], *ROWS[0][1:4], np.ma.masked]],
    "another library's": ROWS[0].view(Marked),
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("what", ["actor", "policy", "exported"])
def test_no_policy_acts_on_masked_values(what: str, kind: str, request: pytest.FixtureRequest) -> None:
    chosen: Any = request.getfixturevalue(what)
    chosen.reset()
    for act in (chosen.act, chosen.predict, lambda obs: chosen.step(obs, chosen.initial_state(1))):
        with pytest.raises(ValueError, match=r"observation: (values masked as missing|not finite)") as refusal:
            act(BATCHES[kind])
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("what", ["actor", "policy", "exported"])
def test_arrays_with_a_mask_that_hides_nothing_are_arrays(what: str, request: pytest.FixtureRequest) -> None:
    chosen: Any = request.getfixturevalue(what)
    for mask in (np.ma.nomask, np.zeros(5, bool)):
        chosen.reset()
        expected = chosen.act(ROWS[0])
        chosen.reset()
        np.testing.assert_array_equal(chosen.act(np.ma.masked_array(ROWS[0], mask)), expected)


RECORDINGS: dict[str, Callable[[], Any]] = {
    "one array": lambda: masked(ROWS),
    "arrays in turn": lambda: iter([ROWS[:50], masked(ROWS[50:60])]),
    "rows in turn": lambda: list(masked(ROWS)),
    "a recording of them": lambda: EpisodeRecording(masked(ROWS), None),
}


@pytest.mark.parametrize("kind", RECORDINGS)
def test_masked_recordings_are_refused(kind: str, actor: Actor) -> None:
    for take in (convert, lambda source, rows: compress(source, observations=rows, target="energy:0.1")):
        with pytest.raises(ValueError, match=r"^observations(\[\d+\])?: values masked as missing"):
            take(actor, RECORDINGS[kind]())


def test_a_mask_that_hides_nothing_changes_no_conversion(actor: Actor, policy: SpikingPolicy) -> None:
    same = convert(actor, np.ma.masked_array(ROWS))
    np.testing.assert_array_equal(same.network.neurons.quanta[0], policy.network.neurons.quanta[0])  # pyright: ignore


def test_masked_pictures_are_refused() -> None:
    pictures = image_walk(20).astype(np.uint8)
    shape = dyadic_image_actor().observation_shape
    for given in (masked(pictures), [pictures[:5], masked(pictures[5:])]):
        with pytest.raises(ValueError, match="values masked as missing"):
            as_recordings(given, shape)


KEYED = KeyedShape({"pos": (2,), "vel": (3,)})
DICTIONARY: Any = {"pos": ROWS[0][:2], "vel": masked(ROWS[0][:3], 3)}
OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "a dictionary's": (lambda: as_batch(DICTIONARY, KEYED), "'vel'"),
    "an environment's": (lambda: finite_observation(ONE, (5,)), "observation"),
    "a reward": (lambda: finite_number(np.ma.masked, "reward"), "reward"),
    "rows to act in": (lambda: as_mask(masked(np.ones(7, np.bool_)), 7, "active"), "active"),
    "starts": (lambda: as_recordings(ROWS, (5,), masked(np.zeros(400, np.bool_))), "episode_starts"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_else_is_masked_is_refused_by_name(what: str) -> None:
    make, name = OTHERS[what]
    with pytest.raises(ValueError, match=f"{name}: values masked as missing, [0-9]+ of them; fill them in"):
        make()


@pytest.mark.parametrize("name", ["observations", "rewards", "terminations"])
def test_masked_transitions_are_refused(name: str) -> None:
    from dataclasses import replace

    data = transitions()
    with pytest.raises(ValueError, match=f"^{name}: values masked as missing"):
        replace(data, **{name: masked(getattr(data, name))})


def test_exports_are_not_verified_on_masked_values(policy: SpikingPolicy, tmp_path: Path) -> None:
    for export in (policy.export_c, lambda place, **given: policy.export_torchscript(place / "policy.pt", **given)):
        with pytest.raises(ValueError, match="observations: values masked as missing"):
            export(tmp_path / "out", observations=masked(ROWS))
    assert not (tmp_path / "out").exists()
