"""The unmodified openpi-client package against the server; it wants numpy<2, so it lives in another environment."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.serving import episode, private_actions, running

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "drive_with_openpi.py"
TOKEN = "a-long-enough-token"


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has openpi-client."""
    given = os.environ.get("SNN_POLICY_OPENPI_PYTHON")
    if given is None and importlib.util.find_spec("openpi_client") is None:
        pytest.skip("openpi-client is not installed here, and SNN_POLICY_OPENPI_PYTHON names no such Python")
    return given or sys.executable


def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_openpis_client_gets_the_actions_of_a_private_policy(python: str, token: str | None, tmp_path: Path):
    np.save(tmp_path / "observations.npy", episode(1, 50))
    files = ("--observations", str(tmp_path / "observations.npy"), "--actions", str(tmp_path / "actions.npy"))
    with running(token=token) as server:
        key = () if token is None else ("--api-key", token)
        done = run(python, str(EXAMPLE), "--port", str(server.port), *key, *files)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "actions.npy"), private_actions(episode(1, 50)))


def test_openpis_client_raises_what_the_server_refuses_and_goes_on(python: str):
    program = """
import sys, numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
policy = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
try:
    policy.infer({"observation": np.full(4, np.nan)})
except RuntimeError as error:
    print(str(error).splitlines()[-1])
print(policy.infer({"state": np.zeros(4), "env_id": np.int64(3), "reset": np.bool_(True)})["actions"].shape)
chunks = ActionChunkBroker(policy, action_horizon=policy.get_server_metadata()["action_horizon"])
print(chunks.infer({"observation": np.zeros((1, 4))})["actions"].shape)
"""
    with running() as server:
        done = run(python, "-c", program, str(server.port))
    refusal, *shapes = done.stdout.splitlines()
    assert refusal.startswith("observation: not finite")
    assert shapes == ["(2,)", "(2,)"], done.stderr
