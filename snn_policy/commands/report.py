"""`snn-policy report`: what a sweep found, as tables, pictures and one page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from snn_policy.commands.common import JsonOption, check_directory, check_target, write_json
from snn_policy.energy import DEFAULT, PROFILES

MOST_NAMED = 20
DEFAULT_DELTA = 0.01
REPORT = "report"


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's directory.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR2", help="Where the report goes; by default DIR/report.")
    ] = None,
    delta: Annotated[
        float, typer.Option(help="The loss that is allowed, as a share of the ANN's mean return, between 0 and 1.")
    ] = DEFAULT_DELTA,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help=f"What operations cost in pictures: {', '.join(PROFILES)}.")
    ] = DEFAULT,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Leave out what needs matplotlib.")] = False,
    json: JsonOption = None,
) -> None:
    """Turn a sweep's results into tables, pictures and one page that opens anywhere: DIR/report/index.html.

    [bold]Example[/]: snn-policy report runs/tolerances --delta 0.01
    """
    from rich.console import Console

    from snn_policy.sweeps.findings import conclude
    from snn_policy.sweeps.read_results import read_sweep
    from snn_policy.sweeps.report import PAGE, document, make_report, write_report
    from snn_policy.sweeps.summary import print_summary

    if not 0 < delta < 1:
        raise ValueError(f"--delta {delta:g}: expected a share of the ANN's return between 0 and 1, such as 0.01")
    if profile not in PROFILES:
        known = ", ".join(PROFILES)
        raise ValueError(f"energy profile {profile!r}: expected one of {known}; the table of energies has all of them")
    check_target(json)
    results = read_sweep(directory, progress=True)
    target = out or directory / REPORT
    if out is None and target.is_symlink():
        raise ValueError(f"{target}: a link; name the place of the report with --out DIR2")
    check_directory(target)
    for cell in results.damaged[:MOST_NAMED]:
        _say(f"{directory}/{cell}; it counts as missing")
    if len(results.damaged) > MOST_NAMED:
        _say(f"and {len(results.damaged) - MOST_NAMED:,} more damaged cells: see the report")
    found = conclude(results, PROFILES[profile], delta, progress=True)
    made = make_report(found, draw=not no_pictures)
    write_report(made, target)
    if not write_json({"report": str(target), **document(found, made)}, json):
        console = Console()
        print_summary(console, found)
        absent = len(results.missing)
        if absent:
            console.print(f"{absent:,} of {len(results.keys):,} cells are missing.", highlight=False)
        print(target / PAGE)


def _say(message: str) -> None:
    print(f"snn-policy: warning: {message}", file=sys.stderr)
