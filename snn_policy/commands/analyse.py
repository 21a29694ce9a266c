"""`snn-policy analyse`: why a conversion loses return, measured: a table, JSON, pictures, a page, and plain words."""

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import (
    JsonOption,
    SeedOption,
    check_directory,
    check_target,
    environment_of,
    is_bundle,
    place_of,
    read_actor,
    read_spiking_policy,
    with_options_of,
    write_json,
)
from snn_policy.commands.convert import converted, source_options
from snn_policy.commands.measure import DEFAULT_SEED

if TYPE_CHECKING:
    from snn_policy.analysis import Analysis
    from snn_policy.policy import SpikingPolicy

DEFAULT_EPISODES = 10
PAGE, FINDINGS = "index.html", "findings.txt"
NO_SETTING = ("source", "env", "engine")
"""Options that say nothing of how a source is to be converted."""

Episodes = Annotated[int, typer.Option(help="Whole episodes of SNN and ANN; variants take at most 4.", min=1)]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Pictures, index.html and findings.txt go there; made if missing.")
]


@with_options_of(converted, "seed")
def analyse(
    episodes: Episodes = DEFAULT_EPISODES,
    seed: SeedOption = DEFAULT_SEED,
    json: JsonOption = None,
    out: Out = None,
    **options: Any,
) -> None:
    """Measure why a conversion loses return in its environment: errors that add up, states, sources, what to change.

    SOURCE is converted as `snn-policy convert` would; a bundle is analysed as it is, unless an option of the conversion
    is given. The environment must be one whose state can be restored (docs/error-amplification.md). --out needs
    matplotlib.

    [bold]Examples[/]:

    snn-policy analyse model.zip --env HalfCheetah-v5 --out run/why

    snn-policy analyse model.zip --neuron if --timesteps 8 --alpha 0 --json why.json
    """
    from snn_policy.analysis import analyse as run_analyses

    check_target(json)
    if out is not None:
        check_directory(out)
        _check_pictures()
    policy = _policy(options)
    environment = environment_of(policy, options["env"])
    analysis = run_analyses(policy.actor, policy, environment, episodes=episodes, seed=seed, progress=True)
    if out is not None:
        _write(analysis, out)
    if not write_json(analysis.as_dict(), json):
        _print(analysis, out)


def _check_pictures() -> None:
    """Raise before any long work where matplotlib is not installed."""
    import importlib.util

    from snn_policy.errors import needs_extra

    if importlib.util.find_spec("matplotlib") is None:
        raise needs_extra("matplotlib", "report", "drawing the pictures of --out")


def _policy(options: dict[str, Any]) -> "SpikingPolicy":
    """Return the conversion to analyse; whatever is wrong with the environment is said before anything is recorded."""
    from snn_policy.analysis.report import check_environment
    from snn_policy.policy import SpikingPolicy

    source, env = options["source"], options["env"]
    defaults = {name: option.default for name, option in signature(converted).parameters.items()}
    asked = [name for name, value in options.items() if name not in NO_SETTING and value != defaults[name]]
    if is_bundle(place_of(source)) and not asked:
        policy = read_spiking_policy(source)
        assert isinstance(policy, SpikingPolicy)
        return policy
    given = source_options(**{name: options[name] for name in signature(source_options).parameters})
    actor = read_actor(source, **given)
    check_environment(actor, environment_of(actor, env))
    return converted(**options)


def _write(analysis: "Analysis", out: Path) -> None:
    """Write pictures, the page and the findings in the place of an earlier analysis's: all of them or none."""
    from snn_policy.analysis.page import page
    from snn_policy.analysis.pictures import names_of_all, picture_files
    from snn_policy.atomic_files import write_together

    files = picture_files(analysis)
    files[PAGE] = page(analysis).encode()
    files[FINDINGS] = "".join(f"{sentence}\n" for sentence in analysis.findings).encode()
    out.mkdir(parents=True, exist_ok=True)
    old = names_of_all() - files.keys()
    write_together({out / name: content for name, content in files.items()}, [out / name for name in old])


def _print(analysis: "Analysis", out: Path | None) -> None:
    from rich.console import Console

    from snn_policy.commands.analyse_tables import analysis_table

    console = Console()
    console.print(analysis_table(analysis))
    for sentence in analysis.findings:
        console.print(f"· {sentence}", markup=False, highlight=False)
    if out is not None:
        console.print(f"{out / PAGE}", style="dim", markup=False, highlight=False)
