"""Ship a compressed version of a shipped policy beside it, in `exported/`, with its card; only if the return is kept.

    python examples/export_compressed.py td3-HalfCheetah-v5 --target energy:0.05
    # writes exported/td3-HalfCheetah-v5-compressed

Weights are stored as float16, which holds a student's rounded ones exactly. Returns in the card are those of the stored
policy, against the original ANN, on seeds 40000…, which neither training nor judging has seen. A run that was stopped
goes on (`runs/export`). `renew_cards.py NAME-compressed` measures a shipped one again.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from cards import returns_card

from snn_policy import Actor, SpikingPolicy, compare, compress, convert
from snn_policy.compression.settings import STEPS
from snn_policy.exported import path

ROOT = Path(__file__).resolve().parent.parent
REPORT_SEED = 40_000
LEAST_RETENTION, MORE_FAILURES = 0.99, 0.02
PRECISION = "float16"


def main(
    name: Annotated[str, typer.Argument(help="a shipped policy with vector observations")],
    target: Annotated[str, typer.Option(help="energy:E or retention:R")] = "retention:0.99",
    steps: Annotated[int, typer.Option(help="gradient steps at most")] = STEPS,
    seed: Annotated[int, typer.Option(help="of the compression")] = 0,
    tolerance: Annotated[float | None, typer.Option(help="of the conversion, instead of the student's own")] = None,
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="directory of the bundle; exported/NAME-compressed by default")
    ] = None,
) -> None:
    """Compress the actor of NAME, measure its stored conversion against the original, and write the bundle."""
    actor = SpikingPolicy.load(path(name)).actor
    run = ROOT / "runs" / "export" / f"{name}-{target.replace(':', '-')}-{steps}-{seed}"
    small = compress(
        actor, target=target, steps=steps, seed=seed, tolerance=tolerance, directory=run, resume=True, progress=True
    )
    ship(name, small, episodes, out)


def ship(name: str, small: Actor, episodes: int, out: Path | None = None) -> None:
    """Measure the stored conversion of a student of NAME against the original, and write its bundle with its card.

    Raises:
        SystemExit: it loses too much; nothing is written.
    """
    shipped = SpikingPolicy.load(path(name))
    env_id = str(small.env_id)
    policy = convert(small, small.collect(env_id))
    with tempfile.TemporaryDirectory() as directory:
        policy.save(directory, dtype=PRECISION)
        stored = SpikingPolicy.load(directory)
    comparison = compare(
        shipped.actor, stored, env_id, episodes=episodes, seed=REPORT_SEED, compressed=stored.actor, progress=True
    )
    policy.card = {
        "env_id": env_id,
        "algorithm": f"{shipped.card['algorithm']}, compressed (docs/compression.md)",
        "training": shipped.card["training"],
        "compression": small.provenance["compression"],
        "returns": returns_card(comparison),
    }
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))
    kept, failed = comparison.retention_of_means, comparison.snn_failed
    if kept < LEAST_RETENTION or failed > comparison.ann_failed + MORE_FAILURES:
        raise SystemExit(
            f"{name}: not shipped: it keeps {kept:.3f} of the return and fails in {failed:.0%}; ask for less"
        )
    policy.save(out or ROOT / "exported" / small.name, dtype=PRECISION, xz=True)


if __name__ == "__main__":
    typer.run(main)
