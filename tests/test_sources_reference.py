"""Reference actors, read as they are described: against their stated rule, written out here in NumPy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from snn_policy.errors import SourceError
from snn_policy.sources import load_actor

NAMES = {
    "dqn-CartPole-v1": "CartPole-v1",
    "ppo-Hopper-v3": "Hopper-v5",
    "ppo-go1": None,
    "sac-MountainCarContinuous-v0": "MountainCarContinuous-v0",
    "sac-Pendulum-v1": "Pendulum-v1",
    "sac-Walker2d-v3": "Walker2d-v5",
    "tqc-HalfCheetah-v3": "HalfCheetah-v5",
    "tqc-Swimmer-v3": "Swimmer-v5",
    "trpo-Swimmer-v3": "Swimmer-v5",
}
FUNCTIONS = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "swish": lambda z: z / (1 + np.exp(-z))}


def stated_rule(card: dict, tensors: dict, obs: np.ndarray) -> np.ndarray:
    """The description's own words, in float64."""
    x = obs.astype(np.float64)
    if statistics := card["obs_normalisation"]:
        x = (x - statistics["mean"]) / np.sqrt(np.array(statistics["var"]) + statistics["epsilon"])
        x = np.clip(x, -statistics["clip"], statistics["clip"])
    depth = len(tensors) // 2
    for layer in range(depth):
        weight, bias = (tensors[f"net.{2 * layer}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        x = x @ weight.T + bias
        x = FUNCTIONS[card["activation"]](x) if layer < depth - 1 else x
    if card["output_squash"] == "argmax":
        return x.argmax(axis=1)
    low, high = np.array(card["action_low"]), np.array(card["action_high"])
    if card["output_squash"] == "clip":
        return np.clip(x, low, high)
    x = np.clip(x, -2, 2) if card["pre_squash"] else x
    return low + 0.5 * (np.tanh(x) + 1) * (high - low)


def observations(card: dict, size: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((1000, size)) * 1.5
    if statistics := card["obs_normalisation"]:
        noise = noise * np.sqrt(statistics["var"]) + statistics["mean"]
    return noise.astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_actor_acts_by_its_stated_rule(reference_dir: Path, name: str) -> None:
    card = json.loads((reference_dir / f"{name}.json").read_text())
    tensors = load_file(reference_dir / f"{name}.safetensors")
    obs = observations(card, tensors["net.0.weight"].shape[1])
    actor = load_actor(reference_dir / name)
    assert np.abs(actor.act(obs) - stated_rule(card, tensors, obs)).max() <= 1e-5
    assert (actor.env_id, actor.name) == (NAMES[name], name)


def test_either_file_or_the_stem_names_the_pair(reference_dir: Path) -> None:
    obs = np.ones(17, np.float32)
    actions = [load_actor(f"{reference_dir}/tqc-HalfCheetah-v3{end}").act(obs) for end in ("", ".json", ".safetensors")]
    assert np.array_equal(actions[0], actions[1])
    assert np.array_equal(actions[0], actions[2])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A small actor of the same form: 3 inputs, 4 hidden neurons, 2 actions."""
    rng = np.random.default_rng(1)
    tensors = {
        "net.0.weight": rng.standard_normal((4, 3)), "net.0.bias": rng.standard_normal(4),
        "net.2.weight": rng.standard_normal((2, 4)), "net.2.bias": rng.standard_normal(2),
    }  # fmt: skip
    save_file({key: value.astype(np.float32) for key, value in tensors.items()}, tmp_path / "small.safetensors")
    card = {"activation": "relu", "output_squash": "clip", "action_low": [-1, -1], "action_high": [1, 1]}
    (tmp_path / "small.json").write_text(json.dumps(card))
    return tmp_path / "small"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "gelu"),
        ({"activation": None}, "activation"),
        ({"output_squash": "softmax"}, "softmax"),
        ({"output_squash": "tanh", "pre_squash": "layernorm"}, "layernorm"),
        ({"action_low": None}, "pass low="),
        ({"action_low": [1, 1, 1]}, "shape"),
        ({"action_low": [2, 2]}, "bound"),
        ({"obs_normalisation": {"mean": [0, 0]}}, "lacks"),
        ({"obs_normalisation": {"mean": [0, 0], "var": [1, 1], "epsilon": 0}}, "shape"),
        ({"obs_normalisation": {"mean": [0, 0, 0], "var": [0, 1, 1], "epsilon": 0}}, "NaN or infinity"),
        ({"obs_normalisation": [1, 2]}, "not a readable"),
        ({"layer_sizes": [3, 5, 2]}, "layer sizes"),
    ],
)
def test_a_wrong_description_is_one_clear_error(pair: Path, change: dict, message: str) -> None:
    card_path = pair.with_suffix(".json")
    card_path.write_text(json.dumps(json.loads(card_path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as caught:
        load_actor(pair)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("net.0.weight", None, "missing"),
        ("net.2.weight", np.zeros((2, 5), np.float32), "takes 5 inputs, but gets 4"),
        ("net.0.bias", np.zeros(3, np.float32), "shapes do not fit"),
        ("net.0.bias", np.full(4, np.nan, np.float32), "NaN"),
        ("norm.weight", np.zeros(3, np.float32), "unexpected tensor"),
        ("net.6.weight", np.zeros((2, 2), np.float32), "layers"),
    ],
)
def test_wrong_tensors_are_one_clear_error(pair: Path, key: str, value: np.ndarray | None, message: str) -> None:
    path = Path(f"{pair}.safetensors")
    tensors = load_file(path) | ({} if value is None else {key: value})
    save_file({name: entry for name, entry in tensors.items() if value is not None or name != key}, path)
    with pytest.raises(SourceError, match=message):
        load_actor(pair)


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_a_truncated_or_absent_half_is_a_source_error_naming_it(pair: Path, ending: str) -> None:
    path = Path(f"{pair}.{ending}")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(SourceError, match=path.name):
        load_actor(pair)
    path.unlink()
    with pytest.raises(SourceError, match=r"no such file"):
        load_actor(f"{pair}.safetensors")


def test_given_bounds_stand_in_for_the_stored_ones(pair: Path) -> None:
    actor = load_actor(pair, low=-0.1, high=[0.1, 0.2], env_id="Mine-v0")
    assert actor.low == pytest.approx([-0.1, -0.1])
    assert actor.high == pytest.approx([0.1, 0.2])
    assert actor.env_id == "Mine-v0"


def test_a_stem_may_hold_dots(pair: Path) -> None:
    for ending in ("json", "safetensors"):
        shutil.copy(f"{pair}.{ending}", f"{pair}.v1.2.{ending}")
    assert load_actor(f"{pair}.v1.2").name == "small.v1.2"
