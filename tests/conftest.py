"""What several tests share."""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from snn_policy.engines.core import build, library
from snn_policy.environments import make_environment
from snn_policy.wrappers.rendering import NoRendererError, choose_backend


def pytest_configure(config: pytest.Config) -> None:
    """Before anything imports dm_control, and before worker processes start, which inherit both choices."""
    choose_backend()
    heed_interrupts()
    build_core()


def heed_interrupts() -> None:
    """A shell's background jobs ignore SIGINT, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def build_core() -> None:
    """The compiled core of a source tree that was not installed, or whose sources have changed since."""
    try:
        library.load(build.SOURCES / build.LIBRARY)
    except library.NoCoreError:
        with contextlib.suppress(build.NoCompilerError):
            build.build(build.SOURCES / build.LIBRARY)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What the modules of the tests make stays until the end: the garbage collector need not go through it again.

    Half a million objects in every process: going through them takes a quarter of the collection's time, and an eighth
    of that of tests that make many objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        share_operators()
        gc.collect()
        gc.freeze()
        gc.enable()


def share_operators() -> None:
    """torch's exporter fills its table of operators anew for every graph, in 0.9 s: one for each process serves all."""
    if "torch.onnx" not in sys.modules:
        return
    with contextlib.suppress(ImportError, AttributeError):  # of other releases: they take their time
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        filled = cache(ONNXRegistry.from_torchlib)
        ONNXRegistry.from_torchlib = staticmethod(filled)  # pyright: ignore[reportAttributeAccessIssue]


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
