"""The policy server: every client acts as if the policy were its own."""

import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from snn_policy.commands.serve import read_policy
from snn_policy.exporting.onnx_policy import OnnxPolicy
from snn_policy.serving.serve import Settings
from tests.actors import KINDS, dyadic_actor, random_actor
from tests.bundles import BUNDLE_FILES, file_of
from tests.serving import Client, Running, episode, packed, policy, private_actions, running, settles

TOKEN = "a-long-enough-token"


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


def get(server: Running, path: str, **headers: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode()


def test_metadata_come_first(server: Running):
    with Client(server.port) as client:
        assert client.metadata["observation_shape"] == [4]
        assert client.metadata["name"] == "dyadic"
        assert np.array_equal(client.metadata["action_low"], policy().low)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_gets_the_actions_of_a_private_policy(kind: str):
    with running(policy(kind)) as server, Client(server.port) as client:
        assert np.array_equal(client.actions(episode(1)), private_actions(episode(1), kind))


@pytest.mark.parametrize("window", [0.0, 0.005])
def test_clients_at_the_same_time_do_not_touch_each_other(window: float):
    with running(batch_window=window) as server:

        def one(seed: int) -> bool:
            with Client(server.port) as client:
                return np.array_equal(client.actions(episode(seed, 50)), private_actions(episode(seed, 50)))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(16)))
        metrics = server.server.metrics
        assert metrics.decisions == 16 * 50
        assert window == 0 or metrics.batches < metrics.decisions


def test_env_ids_have_memories_of_their_own_and_pipelined_messages_are_batched(server: Running):
    episodes = {env_id: episode(seed) for seed, env_id in enumerate([None, 0, 1, "left", "right"])}
    with Client(server.port) as client:
        for step in range(20):
            for env_id, observations in episodes.items():
                client.socket.send(packed(observation=observations[step], env_id=env_id))
            for observations in episodes.values():
                assert np.array_equal(client.answer()["actions"], private_actions(observations)[step])


def test_many_messages_for_one_memory_are_answered_in_order(server: Running):
    observations = episode(5, 300)
    with Client(server.port) as client:
        for obs in observations:
            client.socket.send(packed(observation=obs))
        answers = np.stack([client.answer()["actions"] for _ in observations])
    assert np.array_equal(answers, private_actions(observations))


def test_a_reset_and_a_new_connection_start_from_zero(server: Running):
    expected = private_actions(episode(2))
    for _ in range(2):
        with Client(server.port) as client:
            assert np.array_equal(client.actions(episode(2)), expected)
            assert client.ask(reset=True)["reset"] is True
            assert np.array_equal(client.actions(episode(2)), expected)
            assert np.array_equal(client.ask(observation=episode(2)[0], reset=True)["actions"], expected[0])
            assert np.array_equal(client.actions(episode(2)[1:]), expected[1:])


def test_a_reset_with_an_observation_comes_before_its_decision():
    observations = episode(2)
    fresh = np.stack([private_actions(obs[None], "if-rate")[0] for obs in observations])
    assert not np.array_equal(fresh, private_actions(observations, "if-rate"))
    with running(policy("if-rate")) as server, Client(server.port) as client:
        assert np.array_equal(client.actions(observations, reset=True), fresh)


def test_a_reset_concerns_the_named_memory_only(server: Running):
    with Client(server.port) as client:
        first = client.actions(episode(3)[:10], env_id=1)
        client.ask(reset=True, env_id=2)
        client.ask(reset=True)
        rest = client.actions(episode(3)[10:], env_id=1)
    assert np.array_equal(np.concatenate([first, rest]), private_actions(episode(3)))


def test_the_action_has_the_rank_of_the_observation(server: Running):
    with Client(server.port) as client:
        assert client.ask(observation=episode(0)[0])["actions"].shape == (2,)
        assert client.ask(observation=episode(0)[:1], reset=True)["actions"].shape == (1, 2)
        assert client.ask(observation=[0.5, 0, 1, 2])["actions"].dtype == np.float32


def test_a_named_session_outlives_its_connection(server: Running):
    expected, actions = private_actions(episode(4)), []
    for part in np.split(episode(4), 4):
        with Client(server.port) as client:
            actions.append(client.actions(part, session="robot-7"))
    assert np.array_equal(np.concatenate(actions), expected)
    with Client(server.port) as client:
        assert client.ask(observation=episode(4)[0], session="robot-7")["decisions"] == 21
        assert client.ask(observation=episode(4)[0], session="robot-8")["decisions"] == 1


def test_a_session_belongs_to_the_connection_that_took_it_last(server: Running):
    with Client(server.port) as old, Client(server.port) as new:
        old.ask(observation=episode(0)[0], session="taken")
        assert new.ask(observation=episode(0)[1], session="taken")["decisions"] == 2
        with pytest.raises(RuntimeError, match="another connection has taken it over"):
            old.ask(observation=episode(0)[2], session="taken")
        assert new.ask(observation=episode(0)[2], session="taken")["decisions"] == 3
        new.ask(reset=True, session="taken")
        with pytest.raises(RuntimeError, match="another connection"):
            old.ask(observation=episode(0)[2], session="taken")


def test_an_unused_session_is_forgotten_after_its_time():
    with running(session_ttl=0.1) as server:
        with Client(server.port) as client:
            client.ask(observation=episode(0)[0], session="brief")
        with Client(server.port) as other:
            assert settles(lambda: not server.server.sessions.named)
            assert other.ask(observation=episode(0)[0], session="brief")["decisions"] == 1


def test_memories_are_limited_per_connection_and_altogether():
    with running(max_envs=3, max_sessions=5) as server, Client(server.port) as one, Client(server.port) as two:
        for env_id in range(3):
            one.ask(observation=episode(0)[0], env_id=env_id)
        with pytest.raises(RuntimeError, match="3 memories already"):
            one.ask(observation=episode(0)[0], env_id=3)
        two.ask(observation=episode(0)[0], env_id=0)
        two.ask(observation=episode(0)[0], env_id=1)
        with pytest.raises(RuntimeError, match="the server holds 5"):
            two.ask(observation=episode(0)[0], env_id=2)
        one.ask(reset=True, env_id=0)
        two.ask(observation=episode(0)[0], env_id=2)


def test_a_full_server_drops_the_session_that_was_unused_for_longest():
    with running(max_sessions=2) as server:
        for name in ("first", "second", "third"):
            with Client(server.port) as client:
                client.ask(observation=episode(0)[0], session=name)
            assert settles(lambda: all(entry.owner is None for entry in list(server.server.sessions.named.values())))
        assert {name.session for name in server.server.sessions.named} == {"second", "third"}


def test_an_ann_is_served_too():
    actor = dyadic_actor(0)
    with running(actor) as server, Client(server.port) as client:
        assert np.array_equal(client.actions(episode(0)), np.stack([actor.act(obs) for obs in episode(0)]))


def test_an_exported_policy_is_served_too(tmp_path: Path):
    policy().export_onnx(tmp_path)
    alone = OnnxPolicy(tmp_path)
    with running(OnnxPolicy(tmp_path)) as server, Client(server.port) as client:
        assert np.array_equal(client.actions(episode(0)), np.stack([alone.act(obs) for obs in episode(0)]))
        client.socket.send(packed(observation=episode(1)[0], env_id=1))
        client.socket.send(packed(observation=episode(1)[0], env_id=2))
        assert np.array_equal(client.answer()["actions"], client.answer()["actions"])
    for file in BUNDLE_FILES:
        file_of(tmp_path, file).unlink()
    assert read_policy(str(tmp_path))[1] == "SNN, ONNX"


def test_discrete_actions_are_integers():
    from snn_policy import convert
    from tests.actors import walk

    discrete = convert(random_actor(kind="argmax"), walk(300))
    with running(discrete) as server, Client(server.port) as client:
        action = client.ask(observation=walk(1)[0])["actions"]
    assert action.dtype == np.int64
    assert action.shape == ()


def test_health_and_metrics(server: Running):
    with Client(server.port) as client:
        client.actions(episode(0))
        assert get(server, "/healthz") == "ok\n"
        lines = dict(line.rsplit(" ", 1) for line in get(server, "/metrics").splitlines() if line[0] != "#")
    assert int(lines["snn_policy_decisions_total"]) >= 20
    assert int(lines["snn_policy_synaptic_operations_total"]) > 0
    assert float(lines['snn_policy_latency_seconds{quantile="0.99"}']) > 0
    assert int(lines["snn_policy_open_connections"]) >= 1
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, "/policy.json")


def test_synaptic_operations_are_those_of_the_private_policy():
    with running() as server, Client(server.port) as client:
        client.actions(episode(6))
        counted = server.server.metrics.synaptic_operations
    alone = policy()
    for obs in episode(6):
        alone.act(obs)
    assert counted == alone.counters.synaptic_operations.sum()


@pytest.mark.parametrize("scheme", ["Bearer", "Api-Key"])
def test_the_right_token_opens(scheme: str):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    with running(token=TOKEN) as server:
        with Client(server.port, additional_headers=headers) as client:
            client.ask(observation=episode(0)[0])
        assert "decisions_total 1" in get(server, "/metrics", **headers)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_any_other_token_does_not(header: str | None):
    headers = {} if header is None else {"Authorization": header}
    with running(token=TOKEN) as server:
        with pytest.raises(InvalidStatus, match="401"):
            Client(server.port, additional_headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(server, "/metrics", **headers)
        assert get(server, "/healthz") == "ok\n"


def test_web_pages_may_not_connect(server: Running):
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{server.port}", origin="https://example.org")  # pyright: ignore[reportArgumentType]


def test_connections_are_limited():
    with running(max_connections=1) as server, Client(server.port), pytest.raises(InvalidStatus, match="503"):
        Client(server.port)


def test_an_idle_client_is_sent_away():
    with running(idle_timeout=0.2) as server, Client(server.port) as client:
        with pytest.raises(ConnectionClosed):
            client.answer()
        assert client.socket.close_code == 1001


def test_a_client_that_is_too_fast_is_refused_and_may_go_on():
    with running(rate_limit=5.0) as server, Client(server.port) as client:
        for _ in range(5):
            client.ask(observation=episode(0)[0])
        with pytest.raises(RuntimeError, match="at most 5 messages per second"):
            client.ask(observation=episode(0)[0])


def test_a_client_that_only_makes_mistakes_is_sent_away(server: Running):
    with Client(server.port) as client:
        for _ in range(99):
            with pytest.raises(RuntimeError, match="unknown key"):
                client.ask(observations=1)
        with pytest.raises(ConnectionClosed):
            client.ask(observations=1)
        assert client.socket.close_code == 1008


@pytest.mark.parametrize(
    "wrong", [{"port": -1}, {"batch_window": 2.0}, {"max_batch": 0}, {"token": "short"}, {"token": "with space 12"},
              {"idle_timeout": 0}, {"max_sessions": 2**40}, {"rate_limit": -1}]
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict):
    with pytest.raises(ValueError, match="expected"):
        Settings(**wrong)


def test_importing_the_package_needs_neither_websockets_nor_msgpack():
    program = "import sys, snn_policy, snn_policy.cli; sys.exit(bool({'websockets', 'msgpack'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
