"""What a command line means where it leaves something out: `--json` without its FILE, an option without its value.

`--json` may stand alone: what follows it is its FILE only if it is '-' or ends in .json, and otherwise an argument of
its own, as in `snn-policy eval --json BUNDLE`. Whoever meant it as a file is told so when that goes wrong.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer

JSON, STDOUT = "--json", "-"


def explicit_json_target(arguments: Sequence[str]) -> list[str]:
    """Give a bare `--json` its '-': it names a file only if what follows is '-' or ends in .json."""
    complete = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        complete.append(argument)
        if argument == JSON and not _is_target(following):
            complete.append(STDOUT)
    return complete


def json_remark(arguments: Sequence[str], message: str) -> str:
    """Return what to add to a mistake that names a word after `--json` that was not taken for its FILE; "" if none."""
    for argument, following in pairwise(arguments):
        said = argument == JSON and not _is_target(following) and not following.startswith("-")
        if said and following in message:
            return (
                f"; {following} was not taken for the FILE of --json, since it does not end in .json: "
                f"--json={following} writes there"
            )
    return ""


def check_values(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Refuse an option that would take the next option for its value, as in `--out --json`.

    Raises:
        ValueError: naming both, and how such a value is given.
    """
    command: Any = typer.main.get_command(app)
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument == "--":
            return
        command = getattr(command, "commands", {}).get(argument, command)
        options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
        option = options.get(argument)
        takes = option is not None and argument.startswith("-") and not getattr(option, "is_flag", False)
        if takes and argument != JSON and following.startswith("-") and following.partition("=")[0] in options:
            raise ValueError(
                f"{argument}: expected a value, but the option {following} follows; "
                f"a value that begins with '-' is given as {argument}={following}"
            )


def _is_target(word: str) -> bool:
    return word == STDOUT or word.lower().endswith(".json")
