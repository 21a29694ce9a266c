"""`snn-policy eval` and `snn-policy compare`: whole episodes, on seeds that anyone can repeat."""

from typing import TYPE_CHECKING, Annotated

import typer

from snn_policy.commands.common import (
    FORMATS,
    EnvironmentOption,
    EpisodesOption,
    JsonOption,
    NumEnvsOption,
    ProfileOption,
    SeedOption,
    WorkersOption,
    check_target,
    environment_of,
    is_bundle,
    is_exported,
    place_of,
    read_actor,
    read_spiking_policy,
    write_json,
)
from snn_policy.energy import ALL, profiles_of

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.exporting.onnx_policy import OnnxPolicy
    from snn_policy.policy import SpikingPolicy

DEFAULT_EPISODES, DEFAULT_SEED = 20, 5000


def evaluate(
    path: Annotated[str, typer.Argument(metavar="PATH", help=f"A shipped policy's name, or {FORMATS}.")],
    env: EnvironmentOption = None,
    episodes: EpisodesOption = DEFAULT_EPISODES,
    seed: SeedOption = DEFAULT_SEED,
    num_envs: NumEnvsOption = None,
    workers: WorkersOption = 1,
    profile: ProfileOption = ALL,
    json: JsonOption = None,
) -> None:
    """Run one policy for whole episodes: a bundle or an exported graph as the SNN, any other source as the ANN it is.

    [bold]Example[/]: snn-policy eval run/cheetah --env HalfCheetah-v5 --episodes 20 --json cheetah.json
    """
    from rich.console import Console

    from snn_policy.commands.tables import convention, evaluation_table
    from snn_policy.evaluation.evaluate import evaluate as run_episodes

    check_target(json)
    profiles = profiles_of(profile)
    spiking = _is_spiking(path)
    policy = read_spiking_policy(path) if spiking else read_actor(path)
    where = environment_of(policy, env)
    result = run_episodes(
        policy, where, episodes=episodes, seed=seed, num_envs=num_envs, workers=workers, progress=True
    )
    document = {"policy": path, "kind": "SNN" if spiking else "ANN", **result.as_dict()}
    if not write_json(document, json):
        console = Console()
        console.print(evaluation_table(result, document["kind"], profiles))
        console.print(convention(profiles), style="dim")


def compare(
    ann: Annotated[str, typer.Argument(metavar="ANN", help=f"The actor: a shipped policy's name, or {FORMATS}.")],
    snn: Annotated[
        str | None,
        typer.Argument(metavar="SNN", help="The bundle made from it; by default ANN itself, where that is a bundle."),
    ] = None,
    env: EnvironmentOption = None,
    episodes: EpisodesOption = DEFAULT_EPISODES,
    seed: SeedOption = DEFAULT_SEED,
    num_envs: NumEnvsOption = None,
    workers: WorkersOption = 1,
    profile: ProfileOption = ALL,
    json: JsonOption = None,
) -> None:
    """Run an ANN and its spiking conversion on the same seeds: returns, failures, spikes, energy, time.

    [bold]Example[/]: snn-policy compare model.zip run/cheetah --env HalfCheetah-v5 --episodes 20
    """
    from rich.console import Console

    from snn_policy.commands.tables import print_comparison
    from snn_policy.evaluation.evaluate import compare as run_both

    check_target(json)
    profiles = profiles_of(profile)
    if snn and _is_spiking(ann) and place_of(snn).exists() and not _is_spiking(snn):
        raise ValueError(
            f"compare: the two are swapped, the ANN comes first: snn-policy compare {snn} {ann} "
            f"({snn} is no spiking policy; it can be made one with: snn-policy convert {snn} --out DIR)"
        )
    actor, policy = read_actor(ann), read_spiking_policy(snn or ann)
    where = environment_of(actor if actor.env_id else policy, env)
    result = run_both(
        actor, policy, where, episodes=episodes, seed=seed, num_envs=num_envs, workers=workers, progress=True,
        compressed=_compressed(actor, policy),
    )  # fmt: skip
    if not write_json({"policies": {"ann": ann, "snn": snn or ann}, **result.as_dict()}, json):
        print_comparison(Console(), result, profiles)


def _compressed(actor: "Actor", policy: "SpikingPolicy | OnnxPolicy") -> "Actor | None":
    """Return the ANN that the SNN was made from, where it has fewer weights than the one compared with."""
    own: Actor | None = getattr(policy, "actor", None)
    return own if own is not None and own.synapses < actor.synapses else None


def _is_spiking(path: str) -> bool:
    return is_bundle(place_of(path)) or is_exported(place_of(path))
