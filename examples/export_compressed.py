"""Ship a compressed version of a shipped policy beside it, in `exported/`, with its card; only if the return is kept.

    python examples/export_compressed.py td3-HalfCheetah-v5 --target energy:0.045
    # writes exported/td3-HalfCheetah-v5-compressed

Returns are measured against the original ANN on seeds 40000…, which neither training nor judging has seen.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from cards import returns_card

ROOT = Path(__file__).resolve().parent.parent
REPORT_SEED = 40_000
LEAST_RETENTION = 0.99


def main(
    name: Annotated[str, typer.Argument(help="a shipped policy with vector observations")],
    target: Annotated[str, typer.Option(help="energy:E or retention:R")] = "retention:0.99",
    steps: Annotated[int, typer.Option(help="gradient steps at most")] = 12_000,
    seed: Annotated[int, typer.Option(help="of the compression")] = 0,
    tolerance: Annotated[float, typer.Option(help="of the conversion")] = 0.02,
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="directory of the bundle; exported/NAME-compressed by default")
    ] = None,
) -> None:
    """Compress the actor of NAME, measure its conversion against the original, and write the bundle."""
    from snn_policy import SpikingPolicy, compare, compress, convert
    from snn_policy.exported import path

    shipped = SpikingPolicy.load(path(name))
    actor, env_id = shipped.actor, str(shipped.actor.env_id)
    small = compress(actor, target=target, steps=steps, seed=seed, tolerance=tolerance, progress=True)
    policy = convert(small, small.collect(env_id), tolerance=tolerance)
    comparison = compare(actor, policy, env_id, episodes=episodes, seed=REPORT_SEED, compressed=small, progress=True)
    policy.card = {
        "env_id": env_id,
        "algorithm": f"{shipped.card['algorithm']}, compressed (docs/compression.md)",
        "training": shipped.card["training"],
        "compression": small.provenance["compression"],
        "returns": returns_card(comparison),
    }
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))
    if comparison.retention_of_means < LEAST_RETENTION or comparison.snn_failed > comparison.ann_failed:
        kept, failed = comparison.retention_of_means, comparison.snn_failed
        raise SystemExit(
            f"{name}: not shipped: it keeps {kept:.3f} of the return and fails in {failed:.0%}; ask for less"
        )
    policy.save(out or ROOT / "exported" / small.name)


if __name__ == "__main__":
    typer.run(main)
