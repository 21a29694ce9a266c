"""Forged archives of PyTorch's in passing; `python -m tests.fuzz archives` tries as many as one likes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.fuzz import CHECKS, Archives


@pytest.mark.parametrize("kind", ["TorchScript", "checkpoint"])
def test_forged_archives_are_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    archives = Archives(tmp_path, kind)

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=CHECKS)
    @given(archives.strategy())
    def check(members: dict[str, Any]) -> None:
        archives.reads_or_refuses(members)

    check()
