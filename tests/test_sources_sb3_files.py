"""Damaged and hostile Stable-Baselines3 files: one clear error each, and nothing in them is ever executed."""

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from snn_policy.errors import SourceError
from snn_policy.sources import load_actor, sb3_archive

EXECUTED: list[str] = []


def detonate(where: str) -> str:
    EXECUTED.append(where)
    return where


class Bomb:
    """Runs `detonate` when unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return detonate, ("bomb",)


@pytest.fixture(autouse=True)
def nothing_runs() -> Any:
    EXECUTED.clear()
    yield
    assert EXECUTED == []


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a saved SAC, as bytes."""
    path = tmp_path_factory.mktemp("sb3") / "sac.zip"
    SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, buffer_size=1).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in ("data", "policy.pth")}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def changed(members: dict[str, bytes], change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    data = json.loads(members["data"])
    change(data)
    return members | {"data": json.dumps(data).encode()}


def one_line(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        load_actor(path, **options)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value) or options


def saved(values: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def test_serialized_parts_of_the_data_are_never_unpickled(members: dict[str, bytes], tmp_path: Path) -> None:
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()

    def arm(data: dict[str, Any]) -> None:
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = bomb
        data["policy_kwargs"] = data["policy_kwargs"] | {":type:": "<class 'dict'>", ":serialized:": bomb}

    plain, armed = written(tmp_path / "a.zip", members), written(tmp_path / "b.zip", changed(members, arm))
    obs = np.ones((5, 3), np.float32)
    assert np.array_equal(load_actor(plain).act(obs), load_actor(armed).act(obs))


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), saved(Bomb()), saved({"actor.mu.weight": Bomb()})])
def test_a_bomb_among_the_weights_is_refused(members: dict[str, bytes], tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "bomb.zip", members | {"policy.pth": content})
    one_line(path, "nothing of it was executed")


@pytest.mark.parametrize("content", [b"", b"not weights", saved([1, 2]), saved({"a": 1}), saved({"a": torch.ones(1)})])
def test_weights_of_another_kind_are_refused(members: dict[str, bytes], tmp_path: Path, content: bytes) -> None:
    one_line(written(tmp_path / "other.zip", members | {"policy.pth": content}), r"policy\.pth|is missing")


def test_weights_that_are_not_finite_are_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    weights = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    weights["actor.mu.weight"][0, 0] = float("nan")
    one_line(written(tmp_path / "nan.zip", members | {"policy.pth": saved(weights)}), "NaN")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_zip_is_refused(members: dict[str, bytes], tmp_path: Path, share: float) -> None:
    path = written(tmp_path / "half.zip", members)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    one_line(path, "not a readable zip")


def test_a_flipped_byte_is_noticed(members: dict[str, bytes], tmp_path: Path) -> None:
    path = written(tmp_path / "flipped.zip", members)
    content = bytearray(path.read_bytes())
    content[len(members["data"]) // 8] ^= 0xFF
    path.write_bytes(bytes(content))
    one_line(path, "not a readable zip")


@pytest.mark.parametrize("name", ["data", "policy.pth"])
def test_a_missing_member_is_named(members: dict[str, bytes], tmp_path: Path, name: str) -> None:
    left = {key: value for key, value in members.items() if key != name}
    one_line(written(tmp_path / "partial.zip", left), f"no '{name}' inside")
    (tmp_path / "text.zip").write_text("hello")
    one_line(tmp_path / "text.zip", "not a readable zip")


def test_a_zip_bomb_is_refused_without_unpacking_it(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sb3_archive._MEMBERS, "data", 2**20)
    path = written(tmp_path / "zeros.zip", members | {"data": bytes(2**21)})
    assert path.stat().st_size < 2**16
    one_line(path, "data unpacks to more than 1 MB; refused")


def test_a_bomb_inside_the_weights_is_refused_without_unpacking_it(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sb3_archive, "LARGEST_WEIGHTS", 2**20)
    inner = written(tmp_path / "inner.zip", {"archive/data/0": bytes(2**21)}).read_bytes()
    one_line(written(tmp_path / "outer.zip", members | {"policy.pth": inner}), "unpacks to more than 1 MB")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("action_space"), "lacks 'action_space'"),
        (lambda data: data.pop("policy_class"), "lacks 'policy_class'"),
        (lambda data: data["action_space"].pop("_shape"), "lacks 'shape'"),
        (lambda data: data["action_space"].update(low="[-2. x]"), "could not convert"),
        (lambda data: data["action_space"].update(low="[-2. ... -2.]"), "pass low="),
        (lambda data: data["action_space"].update(low="[nan]"), "finite action bounds|NaN"),
        (lambda data: data["action_space"].update(low=None), "pass low="),
        (lambda data: data["observation_space"].update(_shape=[4]), "3 inputs, which do not fit"),
        (lambda data: data.update(policy_class=None), "not a readable"),
        (lambda data: data.update(policy_kwargs="{}"), "not a readable"),
    ],
)
def test_a_wrong_description_is_one_clear_error(
    members: dict[str, bytes], tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    one_line(written(tmp_path / "wrong.zip", changed(members, change)), message)


def test_shortened_bounds_may_be_given(members: dict[str, bytes], tmp_path: Path) -> None:
    shortened = changed(members, lambda data: data["action_space"].update(low="[-2. ... -2.]", high="[2. ... 2.]"))
    actor = load_actor(written(tmp_path / "short.zip", shortened), low=[-2], high=[2])
    plain = load_actor(written(tmp_path / "plain.zip", members))
    assert np.array_equal(actor.act(np.ones(3)), plain.act(np.ones(3)))
    one_repr = changed(members, lambda data: data["action_space"].update(low="...", low_repr="-2.0"))
    assert load_actor(written(tmp_path / "repr.zip", one_repr)).low == pytest.approx([-2])


def test_data_that_is_not_a_json_object_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    for content in (b"", b"[1]", b"\xff\xfe", b"{", b"[" * 100_000):
        one_line(written(tmp_path / "json.zip", members | {"data": content}), "JSON")


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    """A saved VecNormalize of Pendulum."""
    import gymnasium as gym

    VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")])).save(str(tmp_path / "vecnormalize.pkl"))
    return tmp_path / "vecnormalize.pkl"


def alter(statistics: Path, change: dict[str, Any], protocol: int | None = None) -> None:
    with statistics.open("rb") as file:
        real = pickle.load(file)
    vars(real).update({"venv": None, "class_attributes": {}, "returns": None} | change)
    with statistics.open("wb") as file:
        pickle.dump(real, file, protocol)


@pytest.mark.parametrize(
    "payload",
    [Bomb(), {"a": [Bomb()]}, np.array([Bomb()], object), print, eval, io.BytesIO, Path("x")],
    ids=["bomb", "nested", "object array", "print", "eval", "io", "path"],
)
def test_a_pickle_with_anything_but_numbers_is_refused(members: dict[str, bytes], tmp_path: Path, payload: Any) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(payload))
    with pytest.raises(SourceError, match=r"bomb\.pkl: holds .*, which observation statistics never need"):
        load_actor(written(tmp_path / "sac.zip", members), vecnormalize=path)


def test_a_bomb_within_real_statistics_is_refused(members: dict[str, bytes], tmp_path: Path, statistics: Path) -> None:
    alter(statistics, {"epsilon": Bomb()})
    archive = written(tmp_path / "sac.zip", members)
    one_line(archive, "detonate, which observation statistics never need; refused", vecnormalize=statistics)


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_statistics_are_read_whatever_the_pickle_protocol(
    members: dict[str, bytes], tmp_path: Path, statistics: Path, protocol: int
) -> None:
    with statistics.open("rb") as file:
        real = pickle.load(file)
    real.obs_rms.mean, real.epsilon = np.array([1.0, -2.0, 3.0]), np.float64(0.5)
    alter(statistics, {"obs_rms": real.obs_rms, "epsilon": real.epsilon}, protocol)
    normaliser = load_actor(written(tmp_path / "sac.zip", members), vecnormalize=statistics).normaliser
    assert normaliser is not None
    assert normaliser.mean == pytest.approx([1, -2, 3])
    assert normaliser.scale == pytest.approx([1.5**0.5] * 3)


class Forged:
    """An array whose dtype claims that its bytes are objects' addresses, and hides it in its flags."""

    def __reduce__(self) -> tuple[Any, ...]:
        reconstruct: Any = np.zeros(1).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (3,), ForgedType(), False, b"A" * 24)


class ForgedType:
    def __reduce__(self) -> tuple[Any, ...]:
        fields = {"x": (np.dtype("O"), 0)}
        return np.dtype, ("V8", False, True), (3, "|", None, ("x",), fields, 8, 1, 0)


def test_a_forged_dtype_is_not_believed(members: dict[str, bytes], tmp_path: Path, statistics: Path) -> None:
    with statistics.open("rb") as file:
        real = pickle.load(file)
    real.obs_rms.mean = Forged()
    alter(statistics, {"obs_rms": real.obs_rms})
    one_line(written(tmp_path / "sac.zip", members), "does not hold numbers", vecnormalize=statistics)


def test_real_statistics_are_read_and_broken_ones_refused(
    members: dict[str, bytes], tmp_path: Path, statistics: Path
) -> None:
    archive = written(tmp_path / "sac.zip", members)
    normaliser = load_actor(archive).normaliser
    assert normaliser is not None
    assert normaliser.clip == 10
    content = statistics.read_bytes()
    for broken in (b"", content[:100], content[:-3], b"hello", pickle.dumps([1, 2]), pickle.dumps(np.ones(3))):
        statistics.write_bytes(broken)
        one_line(archive, r"vecnormalize\.pkl", vecnormalize=statistics)
    with pytest.raises(SourceError, match="no such file"):
        load_actor(archive, vecnormalize=tmp_path / "absent.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": "x"}, "not a readable VecNormalize"),
        ({"clip_obs": -1.0}, "not a usable number"),
        ({"epsilon": float("nan")}, "not a usable number"),
        ({"obs_rms": None}, "not a readable VecNormalize"),
    ],
)
def test_unusable_statistics_are_refused(
    members: dict[str, bytes], tmp_path: Path, statistics: Path, change: dict[str, Any], message: str
) -> None:
    alter(statistics, change)
    one_line(written(tmp_path / "sac.zip", members), message, vecnormalize=statistics)


def test_a_huge_memo_index_is_refused_without_making_room_for_it(members: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")
    with pytest.raises(SourceError, match="memo index"):
        load_actor(written(tmp_path / "sac.zip", members), vecnormalize=path)


def spaced(members: dict[str, bytes], content: bytes, **parts: Any) -> dict[str, bytes]:
    """With another serialised action space."""
    text = base64.b64encode(content).decode()
    return changed(members, lambda data: data["action_space"].update({":serialized:": text} | parts))


def test_bounds_come_from_the_serialised_space_not_from_its_print(members: dict[str, bytes], tmp_path: Path) -> None:
    other = changed(members, lambda data: data["action_space"].update(low="[-1.]", high="[1.]"))
    assert load_actor(written(tmp_path / "other.zip", other)).high == pytest.approx([2])
    alone = changed(members, lambda data: data["action_space"].pop(":serialized:"))
    with pytest.warns(UserWarning, match="printed form"):
        assert load_actor(written(tmp_path / "alone.zip", alone)).high == pytest.approx([2])


class Giver:
    """Pickles as a call of a name in NumPy with arguments of its own."""

    def __init__(self, name: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (name, arguments) if state is None else (name, arguments, state)

    def __reduce__(self) -> Any:
        return self.made


def nested(levels: int) -> bytes:
    return b"\x80\x04}" + b")" + b"\x85" * levels + b"Ns."


def doubling(levels: int) -> bytes:
    return b"\x80\x04})" + b"2\x86" * levels + b"Ns."


HOSTILE_SPACES: dict[str, bytes] = {
    "bomb": pickle.dumps(Bomb()),
    "numbers": pickle.dumps([1, 2]),
    "array": pickle.dumps(np.ones(3)),
    "empty": b"",
    "text": b"hello",
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "deep key": nested(1_000_000),
    "doubled key": doubling(200),
    "remembered key": b"\x80\x04}" + b")\x94" + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(200)) + b"Ns.",
    "claimed size": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "unfinished mark": b"\x80\x04(((((t.",
}


@pytest.mark.parametrize("name", HOSTILE_SPACES)
def test_a_hostile_space_is_not_opened_and_its_print_is_taken_aloud(
    members: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    path = written(tmp_path / "space.zip", spaced(members, HOSTILE_SPACES[name]))
    with pytest.warns(UserWarning, match="printed form"):
        assert load_actor(path).high == pytest.approx([2])
    shortened = spaced(members, HOSTILE_SPACES[name], low="[-1.9 ]", high="[2.1]")
    one_line(written(tmp_path / "space.zip", shortened), "pass low=")


@pytest.mark.parametrize("name", ["memo", "deep key", "doubled key", "claimed size", "unfinished mark"])
def test_hostile_statistics_are_one_clear_error(members: dict[str, bytes], tmp_path: Path, name: str) -> None:
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(HOSTILE_SPACES[name])
    with pytest.raises(SourceError, match=r"vecnormalize\.pkl: ") as caught:
        load_actor(written(tmp_path / "sac.zip", members), vecnormalize=path)
    assert "\n" not in str(caught.value)


def test_one_buffer_is_never_copied_for_each_array_that_names_it() -> None:
    from snn_policy.sources.unpickling import load_numbers

    buffer = bytearray(2**20)
    frombuffer: Any = np.zeros(1).__reduce_ex__(5)[0]
    content = pickle.dumps([Giver(frombuffer, buffer, np.dtype("u1"), (2**20,), "C") for _ in range(100)], 5)
    arrays = load_numbers(content)
    assert len(content) < 2**21
    assert all(np.shares_memory(arrays[0].values, array.values) for array in arrays)


def test_a_pickle_cannot_change_how_later_ones_are_read(statistics: Path, members: dict[str, bytes]) -> None:
    from snn_policy.sources import unpickling

    scalar: Any = np.float64(1).__reduce__()[0]
    before = {name: dict(vars(kind)) for name, kind in unpickling._NUMPY.items()}
    prefix = b"\x80\x02c" + f"{scalar.__module__}\n{scalar.__name__}\n".encode()
    for state in ({"__defaults__": (b"x",)}, {"read": 3}):
        with pytest.raises(Exception, match=r".+"):
            unpickling.load_numbers(prefix + pickle.dumps((None, state), 2)[2:-1] + b"b.")
    assert {name: dict(vars(kind)) for name, kind in unpickling._NUMPY.items()} == before
    assert load_actor(written(statistics.parent / "sac.zip", members)).normaliser is not None


@pytest.mark.parametrize("name", [["f8"] * 3, ("f8", "f8"), b"f8", 8])
def test_a_dtype_is_known_by_its_name_alone(name: Any) -> None:
    from snn_policy.sources.unpickling import load_numbers

    scalar: Any = np.float64(1).__reduce__()[0]
    content = pickle.dumps(Giver(scalar, Giver(np.dtype, name, False, True), b"12345678"))
    assert load_numbers(content) is None


@pytest.mark.parametrize("container", [set, frozenset, list, dict])
def test_plain_containers_within_statistics_are_admitted(
    members: dict[str, bytes], tmp_path: Path, statistics: Path, container: Any
) -> None:
    for protocol in (3, 4, 5):
        alter(statistics, {"norm_obs_keys": container([("a", 1), ("b", 2)])}, protocol)
        assert load_actor(written(tmp_path / "sac.zip", members)).normaliser is not None
