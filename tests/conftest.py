"""What several tests share."""

import contextlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from snn_policy.engines.core import build, library
from snn_policy.environments import make_environment
from snn_policy.wrappers.rendering import NoRendererError, choose_backend


def pytest_configure(config: pytest.Config) -> None:
    """Before anything imports dm_control, and before worker processes start, which inherit the choice."""
    choose_backend()
    build_core()


def build_core() -> None:
    """The compiled core of a source tree that was not installed, or whose sources have changed since."""
    try:
        library.load(build.SOURCES / build.LIBRARY)
    except library.NoCoreError:
        with contextlib.suppress(build.NoCompilerError):
            build.build(build.SOURCES / build.LIBRARY)


@pytest.fixture(scope="session")
def renderer() -> None:
    """What draws without a display; tests that need it skip where there is nothing."""
    try:
        make_environment("dm_control/cartpole-swingup-pixels-v0").close()
    except NoRendererError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def graphs_of_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function: the graphs and the bundle of the dyadic policy of a kind, exported once; to read, not to change."""
    from tests.actors import policies

    @cache
    def export(kind: str) -> Path:
        directory = tmp_path_factory.mktemp(kind)
        policies()[kind].export_onnx(directory)
        return directory

    return export


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of actors that this project did not train; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "policies"
    folder = Path(os.environ.get("SNN_POLICY_REFERENCE_DIR", beside))
    if not folder.is_dir():
        pytest.skip(f"no reference actors: {folder} is absent (SNN_POLICY_REFERENCE_DIR)")
    return folder
