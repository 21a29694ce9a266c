"""Draw again what `snn-policy bench SOURCE --scaling --json FILE` measured, without measuring.

    python examples/plot_scaling.py docs/scaling.json           # writes docs/{scaling,operations}_{light,dark}.png
    python examples/plot_scaling.py run/scaling.json --out run/pictures

The pictures go beside the file, unless --out names another directory.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from snn_policy.bench.plots import draw
from snn_policy.bench.scaling import ScalingPoint

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(
    measured: Annotated[Path, typer.Argument(help="what --json wrote")] = DOCS / "scaling.json",
    out: Annotated[Path | None, typer.Option(help="directory of the pictures; by default the file's own")] = None,
) -> None:
    """Draw the pictures for light and for dark pages."""
    if not measured.is_file():
        raise typer.BadParameter(f"{measured}: no such file; write it with: snn-policy bench SOURCE --scaling --json")
    document = json.loads(measured.read_text())
    points = [ScalingPoint(**each) for each in document["points"]]
    for path in draw(points, Path(document["source"]).name, out or measured.parent):
        print(path)


if __name__ == "__main__":
    typer.run(main)
