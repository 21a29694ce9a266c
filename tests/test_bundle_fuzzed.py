"""Forged bundles in passing; `python -m tests.fuzz` tries as many as one likes."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.fuzz import Bundles


@pytest.mark.parametrize("kind", ["sigma-delta", "mt-differential"])
def test_a_forged_bundle_acts_in_bounds_or_is_refused(kind: str, tmp_path: Path):
    bundles = Bundles(tmp_path, kind)

    @settings(max_examples=300)
    @given(bundles.strategy())
    def check(forged: tuple[bytes, bytes]) -> None:
        bundles.loads_or_refuses(forged)

    check()
