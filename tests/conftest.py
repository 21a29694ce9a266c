"""What several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of actors that this project did not train; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "policies"
    folder = Path(os.environ.get("SNN_POLICY_REFERENCE_DIR", beside))
    if not folder.is_dir():
        pytest.skip(f"no reference actors: {folder} is absent (SNN_POLICY_REFERENCE_DIR)")
    return folder
