"""Compiled code: cached where that is possible, never stale, and working where it is not possible."""

from types import SimpleNamespace
from typing import Any

import numba
import pytest

from snn_policy.engines import compilation, event_program


def double(x: float) -> float:
    return 2 * x


def test_without_a_place_for_the_cache_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_to_cache(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compilation, "numba", SimpleNamespace(njit=refuse_to_cache))
    assert compilation.entry(double)(21.0) == 42.0


def test_the_cached_program_belongs_to_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    now = event_program._fingerprint()
    assert now == event_program._fingerprint()
    monkeypatch.setattr(event_program.Path, "read_bytes", lambda self: b"changed")
    assert event_program._fingerprint() != now
