"""Bundles forged with care: right checksums, wrong content. Each is one `SourceError`, whatever is inside."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from snn_policy import SourceError, SpikingPolicy
from tests.actors import dyadic_observations, policies
from tests.bundles import file_of

KIND_NAMES = ("sigma-delta", "sigma-delta-carrying", "mt-differential")
ODD: list[Any] = [None, True, False, 0, -1, 1, 7, 2.5, 1e308, 10**30, float("nan"), float("inf"), "", "relu", "x" * 99,
                  [], [1], {}, {"a": 1}, [[]], -(2**63), 2**64, "__import__('os')"]  # fmt: skip


@pytest.fixture(scope="module", params=KIND_NAMES)
def bundle(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    policies()[request.param].save(directory)
    return directory


def forge(directory: Path, document: Any, weights: bytes | None = None) -> Path:
    """Write the document with right checksums into a directory beside the original."""
    target = directory / "forged"
    target.mkdir(exist_ok=True)
    content = file_of(directory, "weights").read_bytes() if weights is None else weights
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key != "sha256"}
        if "weights_sha256" in document:
            document["weights_sha256"] = hashlib.sha256(content).hexdigest()
        document["sha256"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    (target / "policy.json").write_text(json.dumps(document))
    (target / "weights.safetensors").write_bytes(content)
    return target


def original(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "policy.json").read_text())


def loads_or_refuses(directory: Path) -> None:
    """Either one SourceError, or a policy that acts within its bounds."""
    try:
        policy = SpikingPolicy.load(directory, engine="numpy")
    except SourceError:
        return
    for obs in dyadic_observations(3):
        action = policy.act(obs)
        assert ((policy.low <= action) & (action <= policy.high)).all()


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if before:
        yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in items:
        yield from paths(element, (*before, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def test_the_forgery_itself_is_sound(bundle: Path) -> None:
    expected = SpikingPolicy.load(bundle).act(dyadic_observations(4))
    again = SpikingPolicy.load(forge(bundle, original(bundle)))
    assert np.array_equal(again.act(dyadic_observations(4)), expected)


def test_every_value_replaced_by_every_odd_one(bundle: Path) -> None:
    document = original(bundle)
    for path in paths(document):
        if path[0] in ("versions", "sha256"):
            continue
        for odd in (KeyError, *ODD):
            loads_or_refuses(forge(bundle, replaced(document, path, odd)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("actor", "head", "pre_clip"), True),
        (("actor", "head", "pre_clip"), "1.0"),
        (("actor", "layers", 0, "inputs"), 10**9),
        (("actor", "layers", 0, "outputs"), True),
        (("neurons", "base"), True),
        (("neurons", "alpha"), {}),
    ],
)
def test_a_value_of_another_type_or_size_than_its_weights_is_refused(
    path: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    policies()["sigma-delta-carrying"].save(tmp_path)
    document = original(tmp_path)
    with pytest.raises(SourceError):
        SpikingPolicy.load(forge(tmp_path, replaced(document, path, value)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_in_any_place(bundle: Path, data: Any) -> None:
    document = original(bundle)
    path = data.draw(st.sampled_from([path for path in paths(document) if path[0] != "versions"]))
    loads_or_refuses(forge(bundle, replaced(document, path, data.draw(json_values))))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=json_values)
def test_any_json_at_all(bundle: Path, content: Any) -> None:
    with pytest.raises(SourceError):
        SpikingPolicy.load(forge(bundle, content))


@pytest.mark.parametrize("depth", [*range(900, 1000, 4), 2000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(bundle: Path, depth: int, opening: str, closing: str) -> None:
    target = forge(bundle, original(bundle))
    nested = opening * depth + "1" + closing * depth
    head = '{"format": "snn-policy", "format_version": 1, "card": '
    (target / "policy.json").write_text(head + nested + "}")
    with pytest.raises(SourceError):
        SpikingPolicy.load(target)


def test_numbers_beyond_any_size_are_refused(bundle: Path) -> None:
    target = forge(bundle, original(bundle))
    for number in ("9" * 5000, "1e999999", "-" + "9" * 4000):
        (target / "policy.json").write_text('{"format": "snn-policy", "format_version": ' + number + "}")
        with pytest.raises(SourceError):
            SpikingPolicy.load(target)


NONSENSE: list[tuple[str, tuple[Any, ...], Any]] = [
    ("timesteps 0", ("neurons", "timesteps"), 0),
    ("a billion timesteps", ("neurons", "timesteps"), 10**9),
    ("a million digits", ("neurons", "digits"), [10**6, 4, 6]),
    ("digits for one stage only", ("neurons", "digits"), [6]),
    ("a negative shape whose product fits", ("actor", "observation_shape"), [-2, -2]),
    ("a shape that overflows to the right product", ("actor", "observation_shape"), [2**62 + 1, 4]),
    ("another shape", ("actor", "observation_shape"), [5]),
    ("no layers", ("actor", "layers"), []),
    ("a not-a-number clip", ("actor", "head", "pre_clip"), float("nan")),
    ("a negative clip", ("actor", "head", "pre_clip"), -1.0),
    ("a text as parameter", ("actor", "layers", 0, "activation", "parameter"), "0"),
    ("not a number as parameter", ("actor", "layers", 0, "activation", "parameter"), float("nan")),
    ("an environment that is no text", ("actor", "env_id"), ["Pendulum-v1"]),
    ("unknown head", ("actor", "head", "kind"), "softmax"),
    ("unknown neuron", ("neurons", "model"), "lif"),
    ("unknown setting", ("neurons", "surprise"), 1),
    ("alpha for one layer only", ("neurons", "alpha"), [0.1]),
    ("alpha for more stages than there are", ("neurons", "alpha"), [0.1] * 9),
    ("more than all of the residual", ("neurons", "alpha"), [0.5, 1.5, 0.5]),
    ("a share that is not a number", ("neurons", "alpha"), [0.5, float("nan"), 0.5]),
    ("shares in words", ("neurons", "alpha"), ["0.5", "0.5", "0.5"]),
    ("a truth for a share", ("neurons", "alpha"), [True, True, True]),
    ("one share for all stages", ("neurons", "alpha"), 0.5),
]
OF_MEMBRANES = ("timesteps",)
OF_SIGMA_DELTA = ("digits",)
NONSENSE_OF_KINDS = [
    pytest.param(kind, path, value, id=f"{kind}-{about}")
    for kind in KIND_NAMES
    for about, path, value in NONSENSE
    if path[-1] not in (OF_SIGMA_DELTA if kind == "mt-differential" else OF_MEMBRANES)
]


@pytest.mark.parametrize(("bundle", "path", "value"), NONSENSE_OF_KINDS, indirect=["bundle"])
def test_nonsense_with_a_right_checksum_is_refused(bundle: Path, path: tuple[Any, ...], value: Any) -> None:
    document = original(bundle)
    with pytest.raises(SourceError):
        SpikingPolicy.load(forge(bundle, replaced(document, path, value)))


def test_hostile_arrays_are_refused(bundle: Path) -> None:
    document, arrays = original(bundle), load(file_of(bundle, "weights").read_bytes())
    for name, array in arrays.items():
        nan, inf = np.full_like(array, np.nan), np.full_like(array, np.inf)
        for bad in (nan, inf, array[:-1], array[None], np.zeros(0, np.float32), array[:0]):
            if name in ("head.low", "head.high") and bad is inf:
                continue
            with pytest.raises(SourceError):
                SpikingPolicy.load(forge(bundle, document, save({**arrays, name: np.ascontiguousarray(bad)})))
        for dtype in (np.int64, np.float64, np.bool_, np.float16):
            loads_or_refuses(forge(bundle, document, save({**arrays, name: array.astype(dtype)})))
        huge = save({**arrays, name: np.full(array.shape, 1e300)})
        with pytest.raises(SourceError):
            SpikingPolicy.load(forge(bundle, document, huge))
        with pytest.raises(SourceError):
            SpikingPolicy.load(forge(bundle, document, save({key: a for key, a in arrays.items() if key != name})))


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        ("mt-differential", "layers.0.threshold"),
        ("sigma-delta", "stages.0.quantum"),
        ("sigma-delta-carrying", "stages.1.quantum"),
    ],
    indirect=["bundle"],
)
def test_negative_thresholds_and_quanta_are_refused(bundle: Path, name: str) -> None:
    document, arrays = original(bundle), load(file_of(bundle, "weights").read_bytes())
    with pytest.raises(SourceError):
        SpikingPolicy.load(forge(bundle, document, save({**arrays, name: -np.ones_like(arrays[name])})))


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "U64", "X9"])
def test_array_types_that_numpy_lacks_are_refused_or_read(bundle: Path, dtype: str) -> None:
    content = file_of(bundle, "weights").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for entry in header.values():
        entry["dtype"] = dtype
    text = json.dumps(header).encode()
    forged = len(text).to_bytes(8, "little") + text + content[8 + size :]
    loads_or_refuses(forge(bundle, original(bundle), forged))
    for lie in (2**63, 2**40, len(content)):
        loads_or_refuses(forge(bundle, original(bundle), lie.to_bytes(8, "little") + content[8:]))
