"""Convert shipped sigma-delta policies again with today's defaults, and measure every card again.

    python examples/renew_cards.py                                      # all but pictures and compressed ones: minutes
    python examples/renew_cards.py td3-HalfCheetah-v5 --episodes 500
    python examples/renew_cards.py pixels-small-reacher-easy            # pictures by name: an hour on one core
    python examples/renew_cards.py td3-Hopper-v5-compressed             # compressed ones by name, against the original

An actor stays as it is, but for a compressed one's weights, which are rounded as `compress` does today; and so does a
tolerance that is not the default. IF policies are measured as they are. Returns
are those of episodes that neither training nor conversion has seen, ANN and SNN on the same seeds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cards import returns_card
from export_compressed import ship

from snn_policy import Actor, SpikingPolicy, compare, convert
from snn_policy.compression.rounding import SIGNIFICANT_BITS, rounded_actor
from snn_policy.exported import names, path

ROOT = Path(__file__).resolve().parent.parent
VECTORS_SEED, PICTURES_SEED = 5_000, 6_000
RECORDED, PICTURES_RECORDED = (10_000, 0), (1_000, 20_000)
"""Observations and seed, as in `train_actor.py` and `train_pixels.py`."""


def main(
    name: Annotated[list[str] | None, typer.Argument(help="shipped policies; all vector ones by default")] = None,
    episodes: Annotated[int, typer.Option(help="of the returns in the cards", min=1)] = 100,
    tolerance: Annotated[float | None, typer.Option(help="of the conversion; the shipped one's by default")] = None,
) -> None:
    """Renew the bundles in `exported/`."""
    for entry in name or vector_policies():
        renew(entry, episodes, tolerance)


def vector_policies() -> list[str]:
    """Return the names of plain policies that see no pictures."""
    found = []
    for name in names():
        policy = SpikingPolicy.load(path(name))
        if len(policy.observation_shape) == 1 and "compression" not in policy.card:
            found.append(name)
    return found


def renew(name: str, episodes: int, tolerance: float | None) -> None:
    """Convert, measure and write one policy."""
    shipped = SpikingPolicy.load(path(name))
    if "compression" in shipped.card:
        ship(shipped.card["compression"]["teacher"], rounded_student(shipped.actor), episodes, ROOT / "exported" / name)
        return
    actor, env_id = shipped.actor, str(shipped.actor.env_id)
    pictures = len(actor.observation_shape) == 3
    policy, recorded = shipped, None
    if shipped.conversion["neuron"] == "sigma-delta":
        steps, seed = PICTURES_RECORDED if pictures else RECORDED
        recorded = actor.collect(env_id, steps, seed, progress=True)
        policy = convert(actor, recorded, tolerance=tolerance or shipped.conversion["tolerance"])
    seed = PICTURES_SEED if pictures or name.startswith("qcfs-") else VECTORS_SEED
    comparison = compare(actor, policy, env_id, episodes=episodes, seed=seed, progress=True)
    kept = {key: value for key, value in shipped.card.items() if key != "stored"}
    policy.card = {**kept, "returns": returns_card(comparison)}
    stored = {"dtype": "float16", "observations": recorded[:200]} if pictures and recorded is not None else {}
    policy.save(ROOT / "exported" / name, **stored, xz=True)  # pyright: ignore[reportArgumentType]
    print(name, json.dumps(policy.card["returns"], indent=1, ensure_ascii=False), flush=True)


def rounded_student(actor: Actor) -> Actor:
    """Return a student with the weights that today's `compress` would keep of it, and a record that says so."""
    record = {**actor.provenance["compression"], "significant_bits": SIGNIFICANT_BITS}
    return replace(rounded_actor(actor), provenance={**actor.provenance, "compression": record})


if __name__ == "__main__":
    typer.run(main)
