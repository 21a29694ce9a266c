"""Throw made-up input at everything that reads what others wrote: messages, bundles, state files, PyTorch's archives.

    python -m tests.fuzz                              # 100,000 messages, 100,000 bundles, 10,000 state files
    python -m tests.fuzz messages --inputs 1000000
    python -m tests.fuzz bundles --inputs 2000 --seed 1
    python -m tests.fuzz archives --inputs 20000      # TorchScript and checkpoints, member by member
    python -m tests.fuzz folders                      # safetensors with a configuration; `parameters`: dictionaries

Inputs are random bytes, random values, and valid input with bytes changed, cut, inserted or repeated, or with values
replaced (in bundles mostly under checksums made right again, or all would be refused at the first check). Each must
be read, or refused with the one documented error; anything else ends the run and shows the input.
"""

import argparse
import copy
import hashlib
import json
import re
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from snn_policy import SourceError, SpikingPolicy, load_actor
from snn_policy.errors import UnsupportedLayerError
from snn_policy.progress import counting
from snn_policy.serving.sessions import Name, Sessions
from snn_policy.serving.snapshot import Snapshot, restore, take_snapshot, write_snapshot
from snn_policy.serving.wire import KEYS, MessageError, Request, decode_request, encode_array
from tests.actors import dyadic_observations, policies
from tests.bundles import file_of

SHAPE, DIGEST, CHUNK = (4,), "the policy", 2500
CHECKS: list[Any] = list(HealthCheck)
INPUTS = {
    "messages": 100_000,
    "bundles": 100_000,
    "states": 10_000,
    "archives": 20_000,
    "folders": 10_000,
    "parameters": 10_000,
}
ODD: list[Any] = [None, True, False, 0, -1, 1, 3, 2.5, 1e308, 10**30, float("nan"), float("inf"), "", "relu", "x" * 99,
                  [], [1], {}, {"a": 1}, [[]], -(2**63), 2**64, 2**31]  # fmt: skip
DTYPES = ["<f4", "<f8", "|u1", "<i8", "|b1", "|O", "<M8[s]", "f4,f4"]
SHORT: list[Any] = [*(odd for odd in ODD if odd not in (10**30, 2**64)), *DTYPES, b"", bytes(16), bytes(1000),
                    [4], [1, 4], [2, 2], [0], [-4], [2**31] * 3, [1] * 40, [0.0] * 4, [[1.0]] * 4,
                    {b"__ndarray__": True}]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
marks = st.sampled_from([b"__ndarray__", b"data", b"dtype", b"shape", b"__npgeneric__", "__ndarray__", "data", "dtype"])
values = st.recursive(
    scalars | st.binary(max_size=40) | st.sampled_from(DTYPES),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8) | marks, inner, max_size=5),
    max_leaves=8,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """The bytes with up to four places changed, cut out, inserted or repeated."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(changed)))
        match draw(st.integers(0, 4)):
            case 0:
                changed[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del changed[at : at + draw(st.integers(1, 8))]
            case 2:
                changed[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 3:
                changed[at:at] = changed[at : at + 16]
            case _:
                del changed[at:]
    return bytes(changed)


def _requests() -> list[dict[Any, Any]]:
    obs = np.arange(4, dtype=np.float32)
    three = {b"__npgeneric__": True, b"data": 3, b"dtype": "<i8"}
    text_keys = {key.decode(): value for key, value in encode_array(obs[None]).items()}
    return [
        {"observation": encode_array(obs)},
        {"obs": encode_array(obs.astype(np.float64)), "env_id": 3, "reset": True},
        {"state": [0.5, 1, 2, 3], "env_id": "left", "session": "robot"},
        {"observation/state": text_keys, "env_id": three},
        {"reset": {b"__npgeneric__": True, b"data": True, b"dtype": "|b1"}, "session": "robot"},
    ]


@st.composite
def hostile_messages(draw: Any) -> bytes:
    """Random bytes; random values; requests with up to two values replaced, and bytes changed."""
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return _packed(draw(values))
    request = copy.deepcopy(draw(st.sampled_from(REQUESTS)))
    for place in draw(st.lists(st.sampled_from(_places(request)), max_size=2)):
        _put(request, place, draw(st.sampled_from([*SHORT, *KEYS]) if kind < 11 else values))
    return draw(mutated(_packed(request))) if kind > 6 else _packed(request)


def _packed(value: Any) -> bytes:
    return msgpack.packb(value) or b""


def decodes_or_refuses(message: bytes) -> bool:
    """Whether the message was a request."""
    try:
        request = decode_request(message, SHAPE)
    except MessageError as error:
        return "\n" in str(error) and pytest.fail(f"more than one line: {error}")
    assert isinstance(request, Request)
    assert request.observation is None or np.isfinite(request.observation).all()
    return True


class Bundles:
    """Forgeries of one small bundle."""

    def __init__(self, directory: Path, kind: str = "sigma-delta") -> None:
        self.policy(kind).save(directory)
        self._directory = directory
        self._document = json.loads((directory / "policy.json").read_bytes())
        self._weights = file_of(directory, "weights").read_bytes()
        self._places = [place for place in _places(self._document) if place[0] not in ("versions", "sha256")]

    def policy(self, kind: str) -> SpikingPolicy:
        """The policy whose bundle is forged."""
        return policies()[kind]

    def strategy(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        @st.composite
        def forged(draw: Any) -> tuple[bytes, bytes]:
            weights = draw(mutated(self._weights)) if draw(st.integers(0, 2)) == 0 else self._weights
            document = json.loads(json.dumps(self._document))
            for place in draw(st.lists(st.sampled_from(self._places), max_size=2)):
                _put(document, place, draw(st.sampled_from(ODD) | json_values))
            content = _signed(document, weights)
            return (draw(mutated(content)) if draw(st.integers(0, 4)) == 0 else content), weights

        return forged()

    @np.errstate(over="ignore")
    def loads_or_refuses(self, forged: tuple[bytes, bytes]) -> bool:
        """Whether it was read; then the policy must act within its bounds, though thresholds have any size."""
        (self._directory / "policy.json").write_bytes(forged[0])
        file_of(self._directory, "weights").rename(self._directory / "weights.safetensors")  # as of the first releases
        (self._directory / "weights.safetensors").write_bytes(forged[1])
        try:
            policy = SpikingPolicy.load(self._directory, engine="numpy")
        except SourceError:
            return False
        for obs in np.stack([np.zeros(policy.observation_shape, np.float32)] * 2):
            action = policy.act(obs)
            assert ((policy.low <= action) & (action <= policy.high)).all()
        return True


def _places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [place for key, element in items for place in _places(element, (*before, key))]
    return [before, *inner] if before else inner


def _put(document: Any, place: tuple[Any, ...], value: Any) -> None:
    """Replace the value there, unless an earlier replacement has taken the place away."""
    for key in place[:-1]:
        if not _has(document, key):
            return
        document = document[key]
    if _has(document, place[-1]):
        document[place[-1]] = copy.deepcopy(value)


def _has(document: Any, key: Any) -> bool:
    if isinstance(document, list):
        return isinstance(key, int) and key < len(document)
    return isinstance(document, dict) and key in document


def _signed(document: dict[str, Any], weights: bytes) -> bytes:
    document = {key: value for key, value in document.items() if key != "sha256"}
    document["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    document["sha256"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return json.dumps(document).encode()


class States:
    """Forgeries of a server's state file."""

    def __init__(self, directory: Path) -> None:
        self._policy, self._path = policies("event")["sigma-delta"], directory / "sessions.state"
        sessions = self._sessions()
        for index, obs in enumerate(dyadic_observations(3)):
            _, state, _ = self._policy.decide(obs, self._policy.initial_state(1))
            sessions.adopt(Name(f"robot {index}", index or None), [memory[0] for memory in state], index)
        self._names, self._arrays = take_snapshot(sessions, self._policy)
        write_snapshot(self._path, take_snapshot(sessions, self._policy), DIGEST)
        self._content = self._path.read_bytes()

    def _sessions(self) -> Sessions:
        return Sessions(self._policy, 8, 8, 600.0)

    def strategy(self) -> st.SearchStrategy[bytes]:
        @st.composite
        def forged(draw: Any) -> bytes:
            if draw(st.booleans()):
                return draw(mutated(self._content))
            names: list[Any] = [list(name) for name in self._names]
            for place in draw(st.lists(st.sampled_from(_places(names)), max_size=2)):
                _put(names, place, draw(st.sampled_from(ODD) | json_values))
            filler = draw(st.floats(width=32) | st.sampled_from([0.0, 1e29, -1e30, float("nan")]))
            arrays = {name: array.copy() for name, array in self._arrays.items()}
            chosen = arrays[draw(st.sampled_from([name for name in arrays if arrays[name].dtype == np.float32]))]
            chosen.flat[draw(st.integers(0, chosen.size - 1))] = filler
            write_snapshot(self._path, Snapshot(names, arrays), DIGEST)
            return self._path.read_bytes()

        return forged()

    def restores_or_refuses(self, content: bytes) -> bool:
        """Whether it was read; then every session must be able to go on, or be refused by the policy."""
        self._path.write_bytes(content)
        sessions = self._sessions()
        try:
            restore(self._path, sessions, self._policy, DIGEST)
        except SourceError:
            return False
        for entry in sessions.named.values():
            action, _, _ = self._policy.decide(dyadic_observations(1), sessions.memories.gather([entry.row]))
            assert ((self._policy.low <= action) & (action <= self._policy.high)).all()
        return True


class Archives:
    """Forgeries of PyTorch's archives: members with bytes changed, texts with words exchanged, members left out."""

    def __init__(self, directory: Path, kind: str) -> None:
        import torch

        from tests.fuzz_programs import CHECKPOINTS, PROGRAMS

        self._path = directory / f"{kind}.pt"
        self._options: dict[str, Any] = {} if kind in PROGRAMS else {"activation": "elu"}
        if kind in PROGRAMS:
            with warnings.catch_warnings(action="ignore"):
                torch.jit.script(PROGRAMS[kind]()).save(str(self._path))  # pyright: ignore[reportAttributeAccessIssue]
        else:
            torch.save(CHECKPOINTS[kind](), self._path)
        with zipfile.ZipFile(self._path) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}

    def strategy(self) -> st.SearchStrategy[dict[str, bytes]]:
        @st.composite
        def forged(draw: Any) -> dict[str, bytes]:
            members = dict(self.members)
            for name in draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=3)):
                how = draw(st.integers(0, 9))
                if how == 0:
                    members.pop(name, None)
                elif how < 6 and name.endswith(".py"):
                    members[name] = self._reworded(draw, members.get(name, b""))
                else:
                    members[name] = draw(mutated(members.get(name, b"")))
            return members

        return forged()

    def _reworded(self, draw: Any, text: bytes) -> bytes:
        words = re.findall(rb"[\w.]+", text)
        if len(words) < 2:
            return text
        old, new = (draw(st.sampled_from(words)) for _ in range(2))
        return text.replace(old, draw(st.sampled_from([new, b"0", b"None", b"self", b"[1000000, 1000000]", b"x" * 99])))

    def reads_or_refuses(self, members: dict[str, bytes]) -> bool:
        """Whether it was read; then the actor must act."""
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return acts_or_refuses(self._path, self._options)


class Folders:
    """Forgeries of a folder with weights in safetensors and a configuration."""

    def __init__(self, directory: Path) -> None:
        from safetensors.numpy import save

        from tests.fuzz_programs import CHECKPOINTS

        self._directory = directory / "policy"
        self._directory.mkdir()
        weights = {key: np.asarray(value) for key, value in CHECKPOINTS["checkpoint"]()["model"].items()}
        self.members = {"model.safetensors": save(weights), "config.json": b'{"type": "bc", "hidden": [6], "n": 1.5}'}

    def strategy(self) -> st.SearchStrategy[dict[str, bytes]]:
        @st.composite
        def forged(draw: Any) -> dict[str, bytes]:
            members = dict(self.members)
            for name in draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=2, unique=True)):
                if draw(st.integers(0, 7)) == 0:
                    members.pop(name)
                else:
                    members[name] = draw(mutated(members[name]))
            return members

        return forged()

    def reads_or_refuses(self, members: dict[str, bytes]) -> bool:
        """Whether it was read; then the actor must act."""
        for name in self.members:
            (self._directory / name).unlink(missing_ok=True)
        for name, content in members.items():
            (self._directory / name).write_bytes(content)
        return acts_or_refuses(self._directory, {"activation": "elu"})


@st.composite
def hostile_parameters(draw: Any) -> Any:
    """Dictionaries of parameters as brax keeps them, with up to three values replaced."""
    rng = np.random.default_rng(0)
    layers = {f"hidden_{k}": {"kernel": rng.normal(size=shape), "bias": np.zeros(shape[1])}
              for k, shape in enumerate(((4, 6), (6, 6), (6, 4)))}  # fmt: skip
    whole: dict[str, Any] = {"params": layers}
    odd = [*ODD, np.zeros(0), np.zeros((2**20, 0)), np.full((6, 6), np.nan), np.array(["x"]), np.array([{}], object),
           np.zeros((6, 6), complex), np.zeros((1, 6, 6)), np.zeros((6, 7))]  # fmt: skip
    for place in draw(st.lists(st.sampled_from(_places(whole)), max_size=3)):
        _put(whole, place, draw(st.sampled_from(odd) | json_values))
    if draw(st.integers(0, 9)) == 0:
        whole["params"] = whole  # a cycle
    return whole


def parameters_act_or_refuse(parameters: Any) -> bool:
    return acts_or_refuses(parameters, {"activation": "swish"})


def acts_or_refuses(source: Any, options: dict[str, Any]) -> bool:
    """Whether it was read; then the actor must act twice."""
    try:
        with warnings.catch_warnings(action="ignore"):
            actor = load_actor(source, **options)
    except (SourceError, UnsupportedLayerError) as error:
        return "\n" in str(error) and pytest.fail(f"more than one line: {error}")
    except TypeError as error:  # what is left is another kind of file, which takes no activation
        known = "does not take this argument" in str(error) or "cannot read a policy from" in str(error)
        return not (known and "\n" not in str(error)) and pytest.fail(str(error))
    with np.errstate(all="ignore"):
        actor.reset(num_envs=1)
        for _ in range(2):
            actor.act(np.zeros((1, *actor.observation_shape), np.float32))
    return True


def fuzz(name: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], bool], inputs: int, first: int) -> None:
    """Check so many inputs, in chunks of their own seed (hypothesis remembers what it tried, which takes memory)."""
    tried, read, started = 0, 0, time.perf_counter()
    with counting(name, inputs) as advance:
        while tried < inputs:

            @seed(first + tried)
            @settings(max_examples=min(CHUNK, inputs - tried), database=None, phases=[Phase.generate], deadline=None,
                      suppress_health_check=CHECKS)  # fmt: skip
            @given(strategy)
            def chunk(value: Any) -> None:
                nonlocal tried, read
                read += check(value)
                tried += 1
                advance()

            chunk()
    seconds = time.perf_counter() - started
    print(f"{name}: {tried} inputs in {seconds:.0f} s, {read} read, {tried - read} refused, none crashed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Throw made-up input at what reads messages, bundles and state files.")
    parser.add_argument("what", nargs="?", choices=[*INPUTS, "all"], default="all")
    parser.add_argument("--inputs", type=int, help="how many of each; by default " + str(INPUTS))
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        for what in INPUTS if given_.what == "all" else [given_.what]:
            inputs = given_.inputs or INPUTS[what]
            if what == "messages":
                fuzz(what, hostile_messages(), decodes_or_refuses, inputs, given_.seed)
            elif what == "bundles":
                for index, kind in enumerate(("sigma-delta", "mt-differential")):
                    bundles = Bundles(place / kind, kind)
                    share = (inputs + index) // 2
                    fuzz(f"{what}, {kind}", bundles.strategy(), bundles.loads_or_refuses, share, given_.seed)
            elif what == "archives":
                from tests.fuzz_programs import CHECKPOINTS, PROGRAMS

                kinds = [*PROGRAMS, *CHECKPOINTS]
                for kind in kinds:
                    archives, share = Archives(place, kind), inputs // len(kinds)
                    fuzz(f"{what}, {kind}", archives.strategy(), archives.reads_or_refuses, share, given_.seed)
            elif what == "folders":
                folders = Folders(place)
                fuzz(what, folders.strategy(), folders.reads_or_refuses, inputs, given_.seed)
            elif what == "parameters":
                fuzz(what, hostile_parameters(), parameters_act_or_refuse, inputs, given_.seed)
            else:
                states = States(place)
                fuzz(what, states.strategy(), states.restores_or_refuses, inputs, given_.seed)


REQUESTS = _requests()

if __name__ == "__main__":
    main()
