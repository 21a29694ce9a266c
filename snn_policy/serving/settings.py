"""What an operator may choose, and the limits that keep one client from harming the others."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from snn_policy.checks import require, whole


@dataclass(frozen=True)
class Settings:
    """Set how to serve.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        batch_window: seconds to wait for other clients' observations; 0 takes what arrived in the same loop turn.
        max_batch: observations per call of the policy.
        max_connections: open connections.
        max_sessions: memories altogether, of connections and of named sessions.
        max_envs: memories per connection.
        rate_limit: messages per second and connection, with bursts of one second's worth; 0 for no limit.
        idle_timeout: seconds without a message after which a connection is closed.
        session_ttl: seconds after which an unused named session is forgotten.
        token: what clients must present; None lets everybody in.
        state_file: where named sessions survive a restart.
        snapshot_interval: seconds between two writings of that file.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    batch_window: float = 0.0
    max_batch: int = 256
    max_connections: int = 256
    max_sessions: int = 1024
    max_envs: int = 64
    rate_limit: float = 2000.0
    idle_timeout: float = 300.0
    session_ttl: float = 600.0
    token: str | None = None
    state_file: Path | None = None
    snapshot_interval: float = 1.0

    def __post_init__(self) -> None:
        named = isinstance(self.host, str) and self.host.strip() == self.host != ""
        require(named, f"host {self.host!r}: expected a name or an address; 0.0.0.0 listens on all of IPv4, :: on all")
        require(whole(self.port, 0, 65535), f"port {self.port!r}: expected 0 to 65535")
        require(0 <= self.batch_window <= 1, f"batch window {self.batch_window!r}: expected 0 to 1 second")
        require(self.rate_limit >= 0, f"rate limit {self.rate_limit!r}: expected at least 0")
        for name in ("max_batch", "max_connections", "max_sessions", "max_envs"):
            require(whole(getattr(self, name), 1, 2**20), f"{name} {getattr(self, name)!r}: expected at least 1")
        for name in ("idle_timeout", "session_ttl", "snapshot_interval"):
            require(getattr(self, name) > 0, f"{name} {getattr(self, name)!r}: expected more than 0 seconds")
        require(self.token is None or usable_token(self.token), "token: expected 8 to 512 visible ASCII characters")

    @property
    def on_loopback(self) -> bool:
        """Return whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def usable_token(token: str) -> bool:
    return 8 <= len(token) <= 512 and token.isascii() and token.isprintable() and " " not in token
