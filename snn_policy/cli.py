"""The `snn-policy` command: registers the commands, and gives one clear line for a user's mistake.

Exit codes: 0 done · 2 a mistake that the user can mend (one line on stderr) · 130 interrupted.
Set SNN_POLICY_TRACEBACK=1 to see where an error came from.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from snn_policy.commands import (
    analyse,
    bench,
    compress,
    convert,
    export,
    inspecting,
    measure,
    report,
    serve,
    shipped,
    sweep,
    train,
)
from snn_policy.commands.arguments import check_values, explicit_json_target, json_remark
from snn_policy.commands.interrupts import INTERRUPTED, MESSAGE, raise_from_now_on

MISTAKE = 2
EXTRAS = {
    "torch": "convert", "onnx": "convert", "onnxscript": "convert", "mujoco": "mujoco", "dm_control": "dmc",
    "shimmy": "dmc", "stable_baselines3": "sb3", "moviepy": "video", "matplotlib": "report", "minari": "train",
    "h5py": "train", "websockets": "serve", "msgpack": "serve", "nir": "nir", "ray": "ray",
}  # fmt: skip

app = typer.Typer(
    help="Trained continuous-control policies as spiking neural networks.",
    epilog="Start with: snn-policy demo",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"snn-policy {version('snn-policy')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("demo")(shipped.demo)
app.command("list")(shipped.list_policies)
app.command("inspect")(inspecting.inspect)
app.command("convert")(convert.convert)
app.command("compress")(compress.compress)
app.command("export")(export.export)
app.command("eval")(measure.evaluate)
app.command("compare")(measure.compare)
app.command("analyse")(analyse.analyse)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("bench")(bench.bench)
app.command("serve")(serve.serve)
app.add_typer(train.app, name="train")


def main(arguments: Sequence[str] | None = None, commands: typer.Typer = app, program: str = "snn-policy") -> int:
    """Run one command line (by default the process's own); returns the exit code.

    Args:
        commands, program: a program of its own that treats mistakes and interrupts the same way.
    """
    shown, warnings.formatwarning = warnings.formatwarning, _warning_line
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        raise_from_now_on()
        check_values(commands, given)
        code = commands(args=explicit_json_target(given), prog_name=program, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as stop:
        if isinstance(stop.__cause__, EOFError):  # typer takes a file that ends too early for the user's Ctrl-D
            return _mistake(stop, f"a file ends too early: {stop.__cause__}")
        code = INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        message = _one_line(error)
        return _mistake(error, message + json_remark(given, message))
    except Exception as error:
        if not hasattr(error, "format_message"):  # anything but a usage error of the command line is a defect
            raise
        message: str = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        return _mistake(error, f"{message} (see snn-policy --help){json_remark(given, message)}")
    finally:
        warnings.formatwarning = shown
    if code == INTERRUPTED:
        print(MESSAGE, file=sys.stderr)
    return code if isinstance(code, int) else 0


def _mistake(error: BaseException, message: str) -> int:
    if os.environ.get("SNN_POLICY_TRACEBACK"):
        raise error
    print(f"snn-policy: {' '.join(message.split())}", file=sys.stderr)
    return MISTAKE


def _warning_line(message: Warning | str, *_: Any, **__: Any) -> str:
    """Return how a warning is shown: without the line of code, which is none of the user's."""
    return f"snn-policy: warning: {' '.join(str(message).split())}\n"


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRAS.get(error.name.split(".")[0])
        if extra and "pip install" not in str(error):
            return f"{error.name} is not installed; install it with: pip install 'snn-policy[{extra}]'"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
