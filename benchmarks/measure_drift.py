"""How far sigma-delta accumulators drift from what their memory says, when they are derived anew now and then or never.

    python -m benchmarks.measure_drift td3-HalfCheetah-v5              # prints a Markdown table
    python -m benchmarks.measure_drift td3-HalfCheetah-v5 --decisions 300000

The event engine keeps W·(γ·m), what each neuron has heard, between decisions, and only adds what is new; every addition
rounds. Figures are the largest |accumulator − W·(γ·m)| of any neuron so far, the product taken in float64, as a share
of the largest accumulator seen: 6e-8 is half a unit in the last place of float32.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from snn_policy import Actor, SpikingPolicy, load_actor
from snn_policy.convert import convert
from snn_policy.engines.core.engine import REDERIVE_AFTER, EventEngine
from snn_policy.exported import names, path
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.state import CarryingState, SigmaDeltaState

NEVER = 2**31
CHECK_EVERY = 7
"""Decisions between two comparisons: prime to the usual periods, so that every age of an accumulator is seen."""


def drift(
    network: SpikingNetwork, observations: FloatArray, rederive_after: int, marks: Sequence[int]
) -> list[tuple[int, float]]:
    """(decisions, largest drift so far, as a share of the largest accumulator) at every mark.

    Args:
        network: of sigma-delta neurons.
        observations: (N, *shape) consecutive; gone through again and again, until the last mark.
        rederive_after: decisions after which the accumulators are derived anew.
        marks: ascending numbers of decisions.
    """
    session, found = EventEngine(network, rederive_after).session(1), []
    state, largest, size = session.state, 0.0, 0.0
    assert isinstance(state, SigmaDeltaState | CarryingState)
    for decision in range(1, marks[-1] + 1):
        session.accept(observations[decision % len(observations)])
        session.run()
        if decision % CHECK_EVERY == 0 or decision in marks:
            kept = state.accumulator[0].astype(np.float64)
            largest = max(largest, float(abs(kept - derived(network, state.memory[0])).max()))
            size = max(size, float(abs(kept).max()))
        if decision in marks:
            found.append((decision, largest))
    return [(decision, element / size) for decision, element in found]


def derived(network: SpikingNetwork, memory: FloatArray) -> npt.NDArray[np.float64]:
    """W·(γ·m) of all layers, from the memory of one row."""
    neurons = network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    stages = np.split(memory.astype(np.float64), np.cumsum(network.spiking_widths)[:-1])
    heard: Iterable[npt.NDArray[np.float64]] = (
        layer.weight.astype(np.float64) @ (predictor * stage)
        for layer, predictor, stage in zip(network.actor.layers, neurons.predictor, stages, strict=True)
    )
    return np.concatenate(list(heard))


def main(
    source: Annotated[str, typer.Argument(help="a shipped policy's name, a bundle, or any source of an actor")],
    env: Annotated[str | None, typer.Option(help="Gymnasium id; by default the one stored with the policy")] = None,
    decisions: Annotated[int, typer.Option(min=1, help="how many to make in each case")] = 65_536,
) -> None:
    """Print the table."""
    place = path(source) if source in names() and not Path(source).exists() else Path(source)
    actor = load_actor(place)
    observations = actor.collect(env or _known(actor))
    policy: SpikingPolicy = convert(actor, observations)
    marks = sorted({*(16 * 4**power for power in range(20) if 16 * 4**power < decisions), decisions})
    print(f"| derived anew after | {' | '.join(f'{mark:,} decisions' for mark in marks)} |")
    print("|---" * (1 + len(marks)) + "|")
    for after in (REDERIVE_AFTER, 512, NEVER):
        shares = (f"{share:.1e}" for _, share in drift(policy.network, observations, after, marks))
        name = "never" if after == NEVER else f"{after} decisions" + (" (default)" if after == REDERIVE_AFTER else "")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


def _known(actor: Actor) -> str:
    if actor.env_id is None:
        raise typer.BadParameter(f"{actor.name}: its environment is not known; give it with --env ID")
    return actor.env_id


if __name__ == "__main__":
    typer.run(main)
