"""Builds the compiled core when the package is installed; everything else is in pyproject.toml.

Without a compiler the installation succeeds all the same: the package then says what to do, and decides on NumPy.
With SNN_POLICY_REQUIRE_CORE=1, as wheels are built for others, it fails instead.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

CORE = Path("snn_policy", "engines", "core")


def _builder() -> Any:
    """build.py by itself: the package's own imports are not there yet."""
    spec = importlib.util.spec_from_file_location("core_build", CORE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildCore(build_ext):
    """Compiles the core to a plain shared library, which knows nothing of Python's version."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], _builder().LIBRARY))

    def build_extension(self, ext: Extension) -> None:
        target, builder = Path(self.get_ext_fullpath(ext.name)), _builder()
        try:
            if sys.platform == "win32":
                self._build_with_setuptools(builder, target)
            else:
                builder.build(target.absolute())
        except Exception as problem:
            if os.environ.get("SNN_POLICY_REQUIRE_CORE") == "1":
                raise SystemExit(f"the compiled core is not built: {problem}") from None
            print(f"warning: the compiled core is not built ({problem}); decisions will run on NumPy", file=sys.stderr)

    def _build_with_setuptools(self, builder: Any, target: Path) -> None:
        """With the compiler that setuptools finds: Microsoft's, unless another is asked for; one copy of the core."""
        self.compiler: Any
        macros = [("SNN_VARIANT", "plain"), ("SNN_FIRST_VARIANT", "1")]
        macros.append(("SNN_FINGERPRINT", f"{builder.fingerprint()}u"))
        flags = builder.MICROSOFT_FLAGS if self.compiler.compiler_type == "msvc" else builder.FLAGS
        objects = self.compiler.compile([str(CORE / "library.c")], self.build_temp, macros, extra_postargs=list(flags))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target))

    def get_outputs(self) -> list[str]:
        return [path for path in super().get_outputs() if Path(path).exists()]


class AnyPython(bdist_wheel):
    """The library serves every Python 3 of its platform: one wheel for all."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        architectures = _builder().architectures()
        if len(architectures) == 1:  # a Python for both of Apple's processors, a library for one
            platform = platform.replace("universal2", architectures[0])
        return "py3", "none", platform


setup(
    ext_modules=[Extension("snn_policy.engines.core._core", [str(CORE / "library.c")], optional=True)],
    cmdclass={"build_ext": BuildCore, "bdist_wheel": AnyPython},
)
