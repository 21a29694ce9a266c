"""Draw again what `python -m benchmarks.scaling SOURCE --json FILE` measured.

    python -m benchmarks.plot_scaling            # results/scaling.json: docs/{scaling,operations}_{light,dark}.png
    python -m benchmarks.plot_scaling run/scaling.json --out run/pictures

The pictures go beside the file (those of `benchmarks/results` into `docs`), unless --out names another directory.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.places import RESULTS, pictures_of
from benchmarks.plots import draw
from benchmarks.scaling_points import ScalingPoint


def main(
    measured: Annotated[Path, typer.Argument(help="what --json wrote")] = RESULTS / "scaling.json",
    out: Annotated[Path | None, typer.Option(help="directory of the pictures; by default the file's own")] = None,
) -> None:
    """Draw the pictures for light and for dark pages."""
    if not measured.is_file():
        raise typer.BadParameter(f"{measured}: no such file; write it with: python -m benchmarks.scaling SOURCE --json")
    document = json.loads(measured.read_text())
    points = [ScalingPoint(**point) for point in document["points"]]
    for path in draw(points, Path(document["source"]).name, out or pictures_of(measured)):
        print(path)


if __name__ == "__main__":
    typer.run(main)
