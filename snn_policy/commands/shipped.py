"""`snn-policy demo` and `snn-policy list`: what the policies shipped with the package do."""

import time
from typing import Annotated, Any

import typer

from snn_policy.commands.common import EpisodesOption, JsonOption, ProfileOption, SeedOption, check_target, write_json
from snn_policy.energy import ALL, profiles_of

PREFERRED = "td3-HalfCheetah-v5"


def demo(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A shipped policy (see snn-policy list); HalfCheetah by default."),
    ] = None,
    episodes: EpisodesOption = 20,
    seed: SeedOption = 5000,
    profile: ProfileOption = ALL,
    json: JsonOption = None,
) -> None:
    """Convert a shipped actor here and now, and run ANN and SNN on the same episodes of its real environment.

    [bold]Example[/]: snn-policy demo td3-Pendulum-v1 --episodes 10
    """
    from rich.console import Console

    from snn_policy.bundle import read_bundle
    from snn_policy.commands.common import environment_of, read_actor
    from snn_policy.commands.tables import demo_conclusion, print_comparison
    from snn_policy.convert import convert
    from snn_policy.evaluation.evaluate import compare
    from snn_policy.exported import names, path

    check_target(json)
    profiles = profiles_of(profile)
    chosen = name or _preferred(names())
    actor = read_actor(str(path(chosen)))
    env_id = environment_of(actor, None)
    note = Console(stderr=True)
    note.print(f"[bold]{chosen}[/]: {_shape(actor)} on {env_id}")
    observations = actor.collect(env_id, progress=True)
    begin = time.perf_counter()
    policy = convert(actor, observations, progress=True)
    seconds = time.perf_counter() - begin
    note.print(f"converted in {seconds:.1f} s from {len(observations):,} recorded observations, without retraining")
    result = compare(actor, policy, env_id, episodes=episodes, seed=seed, progress=True)
    document = {"name": chosen, "conversion": policy.conversion, "conversion_seconds": seconds, **result.as_dict()}
    if not write_json(document, json):
        console = Console()
        print_comparison(console, result, profiles)
        for line in demo_conclusion(result, read_bundle(path(chosen)).card):
            console.print(line)


def _preferred(names: list[str]) -> str:
    if not names:
        raise ValueError("no policy is shipped with this installation; convert your own: snn-policy convert --help")
    return PREFERRED if PREFERRED in names else names[0]


def _shape(actor: Any) -> str:
    if not actor.graph.is_chain:
        return f"{actor.widths[0]}-…-{actor.head.outputs} {actor.graph.kind}"
    sizes = "-".join(str(size) for size in (*actor.widths, actor.head.outputs))
    return f"{sizes} {actor.hidden[0].activation.name if actor.hidden else 'linear'} network"


def list_policies(json: JsonOption = None) -> None:
    """List the policies shipped with the package, with what their cards say.

    [bold]Example[/]: snn-policy list --json
    """
    from rich.console import Console

    from snn_policy.bundle import read_bundle
    from snn_policy.commands.tables import shipped_table
    from snn_policy.exported import names, path

    check_target(json)
    rows = []
    for name in names():
        bundle = read_bundle(path(name))
        rows.append(
            {
                "name": name,
                "path": str(path(name)),
                "env_id": bundle.actor.env_id,
                "conversion": bundle.conversion,
                "card": bundle.card,
            }
        )
    if not write_json({"policies": rows}, json):
        Console().print(shipped_table(rows) if rows else "no policy is shipped with this installation")
