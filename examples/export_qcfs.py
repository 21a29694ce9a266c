"""Ship a calibrated QCFS policy: a TD3+BC run's actor, converted at T = L, in `exported/` with its card.

    python -m examples.paper_tables --tasks Hopper-v5 --qualities expert --columns QCFS --steps 30000
    python examples/export_qcfs.py runs/table/Hopper-v5-expert-qcfs-0      # writes exported/qcfs-Hopper-v5

IF neurons under rate coding with θ = λ and one iteration of spike calibration, without CRPI: the network of Song et
al., "Calibrating the Converted Spiking Reinforcement Learning". Returns are measured on seeds 6000…, which `train
table` does not use.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from cards import returns_card

ROOT = Path(__file__).resolve().parent.parent
REPORT_SEED, RECORDING_SEED = 6_000, 20_000


def main(
    run: Annotated[Path, typer.Argument(help="the directory of a TD3+BC run with QCFS activations")],
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 100,
    iterations: Annotated[int, typer.Option(help="I of the spike calibration")] = 1,
    out: Annotated[Path | None, typer.Option(help="directory of the bundle; exported/qcfs-ENV_ID by default")] = None,
) -> None:
    """Convert the actor of RUN, measure it against the QCFS ANN, and write the bundle."""
    import torch

    from snn_policy import SpikeCalibration, compare, convert
    from snn_policy.offline.checkpoints import read_checkpoint
    from snn_policy.sources.training_run import read_training_run

    torch.set_num_threads(1)
    described, _, step = read_checkpoint(run)
    actor = read_training_run(run)
    if actor.env_id is None or any(
        layer.activation is None or layer.activation.name != "qcfs" for layer in actor.hidden
    ):
        raise typer.BadParameter(f"{run}: not a run of a QCFS actor on a known environment")
    actor.name = f"qcfs-{actor.env_id}"
    observations = actor.collect(actor.env_id, 2_000, RECORDING_SEED)
    calibration = SpikeCalibration(iterations)
    policy = convert(actor, observations, neuron="if", coding="rate", alpha=0.0, calibration=calibration)
    comparison = compare(actor, policy, actor.env_id, episodes=episodes, seed=REPORT_SEED, progress=True)
    policy.card = {
        "env_id": actor.env_id,
        "algorithm": "TD3+BC (snn-policy train td3bc), 256×256 QCFS, L = 4",
        "training": {"dataset": described["data"]["name"], "steps": step, "settings": described["settings"]},
        "returns": returns_card(comparison),
    }
    policy.save(out or ROOT / "exported" / actor.name, xz=True)
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
