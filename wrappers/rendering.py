"""Pictures of a dm_control simulation without a display: EGL first, OSMesa second (docs/pixels.md).

dm_control looks for OpenGL once, when it is imported, and does not notice that a window system is missing. So
`choose_backend` has to be called before: `snn_policy.environments.make_environment` does.
"""

import functools
import importlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

_REMEDY = (
    "install EGL (Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri) or OSMesa (libosmesa6) and set "
    "MUJOCO_GL=egl or MUJOCO_GL=osmesa before Python starts; docs/pixels.md tells more"
)
_PROBE = "from mujoco.{} import GLContext; context = GLContext(8, 8); context.make_current(); context.free()"


class NoRendererError(ValueError):
    """Report that nothing here draws without a display; the message gives the reason and names the remedy."""

    def __init__(self, reason: Exception | str) -> None:
        asked = os.environ.get("MUJOCO_GL")
        first_line = str(reason).strip().split("\n")[0].rstrip(".")
        using = f" with MUJOCO_GL={asked}" if asked else ""
        super().__init__(f"no off-screen rendering{using} ({first_line}); {_REMEDY}")


@functools.cache
def choose_backend() -> bool:
    """Set MUJOCO_GL to the first of EGL and OSMesa that works, where it is unset and there is no display either.

    Each is tried in a process of its own, because one that fails would keep the other from being loaded. Once
    dm_control is imported it is too late to choose.

    Returns:
        False where there is certainly nothing to draw with.
    """
    chosen = any(os.environ.get(variable) for variable in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"))
    if chosen or sys.platform != "linux" or "dm_control" in sys.modules:
        return True
    environment = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    for name in ("egl", "osmesa"):
        tried = subprocess.run([sys.executable, "-c", _PROBE.format(name)], capture_output=True, env=environment)
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return True
    return False


class Renderer:
    """Draw what one camera sees of one simulation, as dm_control's `physics.render` draws it.

    The frame buffer is as small as the picture, and the scene is kept between pictures: both only save time.

    Args:
        physics: of dm_control; nothing must have been drawn of it before.
        size: of the picture, in pixels, both ways.
        camera: index of one of the model's own cameras.
        shadow_map: the shadows' resolution in texels.

    Raises:
        NoRendererError: neither EGL nor OSMesa works, or not the one that MUJOCO_GL asks for.
    """

    def __init__(self, physics: Any, size: int, camera: int, shadow_map: int) -> None:
        if not choose_backend():
            raise NoRendererError("neither EGL nor OSMesa works here")
        if not 0 <= camera < physics.model.ncam:
            raise ValueError(f"camera {camera}: the model has {physics.model.ncam}, counted from 0")
        visual = physics.model.vis
        visual.global_.offwidth = visual.global_.offheight = size
        visual.quality.shadowsize = shadow_map
        try:
            self._camera = importlib.import_module("dm_control.mujoco.engine").Camera(physics, size, size, camera)
        except Exception as error:  # every OpenGL fails in its own way: RuntimeError, AttributeError, GLError, …
            raise NoRendererError(error) from error

    def frame(self) -> npt.NDArray[np.uint8]:
        """Return the picture now: (size, size, 3), red, green and blue, the top row first."""
        return self._camera.render().copy()
