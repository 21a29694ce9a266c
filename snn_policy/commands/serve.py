"""`snn-policy serve`: a policy for robots and clients that speak WebSocket."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import FORMATS, check_directory, place_of, read_actor, read_spiking_policy

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.exporting.onnx_policy import OnnxPolicy
    from snn_policy.policy import SpikingPolicy
    from snn_policy.serving.serve import PolicyServer

TOKEN_VARIABLE = "SNN_POLICY_TOKEN"
ANN = "ANN"


def serve(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help=f"A shipped policy's name, an exported directory, or {FORMATS}.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    batch_window: Annotated[
        float, typer.Option(metavar="MS", help="Wait for other clients' observations, milliseconds.", min=0, max=1000)
    ] = 0,
    max_batch: Annotated[int, typer.Option(help="Observations per call of the policy.", min=1)] = 256,
    max_connections: Annotated[int, typer.Option(help="Open connections.", min=1)] = 256,
    max_sessions: Annotated[int, typer.Option(help="Memories, of all connections and sessions.", min=1)] = 1024,
    max_envs: Annotated[int, typer.Option(help="Memories per connection.", min=1)] = 64,
    rate_limit: Annotated[
        float, typer.Option(metavar="HZ", help="Messages per second and connection; 0: no limit.", min=0)
    ] = 2000,
    idle_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds without a message before a connection is closed.")
    ] = 300,
    session_ttl: Annotated[
        float, typer.Option(metavar="S", help="Seconds that an unused named session is kept.")
    ] = 600,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Holds the token clients need; else ${TOKEN_VARIABLE}.")
    ] = None,
    state_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps named sessions across a restart.")
    ] = None,
    snapshot_interval: Annotated[
        float, typer.Option(metavar="S", help="Seconds between two writings of the state file.")
    ] = 1,
) -> None:
    """Serve a policy over WebSocket, in the protocol of openpi's policies; /healthz and /metrics over HTTP.

    Membranes belong to a connection, or to an env_id or session named in the message. SIGTERM drains and exits.

    [bold]Example[/]: snn-policy serve td3-HalfCheetah-v5 --port 8000 --state-file sessions.state
    """
    from snn_policy.serving.logs import log_to_stderr
    from snn_policy.serving.serve import Settings
    from snn_policy.serving.serve import serve as serve_policy

    if state_file is not None:
        check_directory(state_file.resolve().parent, must_exist=True)
    settings = Settings(
        host, port, batch_window / 1000, max_batch, max_connections, max_sessions, max_envs, rate_limit,
        idle_timeout, session_ttl, _token(token_file), state_file, snapshot_interval,
    )  # fmt: skip
    policy, kind = read_policy(path)
    log_to_stderr()
    serve_policy(
        policy,
        settings,
        metadata=_metadata(policy, kind),
        ready=lambda server: _announce(path, kind, server),
    )


def read_policy(path: str) -> "tuple[Actor | SpikingPolicy | OnnxPolicy, str]":
    """Read whatever acts: a bundle, a directory with nothing but ONNX graphs, else an ANN; return which it is, too."""
    from snn_policy.bundle.files import DECISION_FILE, POLICY_FILE, holds_weights

    place = place_of(path)
    if holds_weights(place) or place.name == POLICY_FILE:
        return read_spiking_policy(path), "SNN"
    if (place / DECISION_FILE).is_file():
        from snn_policy.exporting.onnx_policy import OnnxPolicy

        return OnnxPolicy(place), "SNN, ONNX"
    return read_actor(path), ANN


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)
    content = file.read_bytes()[:1024]
    return content.decode("ascii", "replace").strip()


def _metadata(policy: "Actor | SpikingPolicy | OnnxPolicy", kind: str) -> dict[str, Any]:
    from importlib.metadata import version

    actor = getattr(policy, "actor", policy)
    named = {"name": getattr(actor, "name", None), "env_id": getattr(actor, "env_id", None)}
    return {"version": version("snn-policy"), "kind": kind, **{k: v for k, v in named.items() if v is not None}}


def _announce(path: str, kind: str, server: "PolicyServer") -> None:
    restored = f", {server.restored} session(s) restored" if server.settings.state_file is not None else ""
    host = f"[{server.settings.host}]" if ":" in server.settings.host else server.settings.host
    print(f"serving {path} ({kind}) on ws://{host}:{server.port}{restored}", flush=True)
