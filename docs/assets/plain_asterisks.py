"""Let an asterisk in a docstring's shapes, as in (N, *observation_shape), stand as it is: Markdown reads emphasis."""

import re
from typing import Any

from griffe import Extension, Object

SHAPE = re.compile(r"(?<![*\w`\\])\*(?=[a-z_]+\b)")


class PlainAsterisks(Extension):
    """Escape the asterisk before a name wherever a docstring is loaded."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SHAPE.sub(r"\\*", obj.docstring.value)
