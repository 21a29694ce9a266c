"""Time the peers' decisions beside the ANN in ONNX Runtime: one process, one thread, all in turn (`bench.timing`)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.peers_cells import ACTORS, ANN_IN_TORCH, ROWS, ROWS_TIMESTEPS, SIGMA_DELTA, TIMED_PEERS, Cell
from benchmarks.peers_networks import PeerPolicy
from benchmarks.peers_returns import Subject, policy, subject
from benchmarks.torch_baselines import TorchPolicy
from snn_policy.bench.baselines import REFERENCE, onnx_runtime
from snn_policy.bench.timing import Decide, recorded_stream, single_thread, take_turns

TIMED_ACTORS = (ACTORS[0], ACTORS[3])


def timing(effort: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the timings of every actor, one row and `ROWS` rows.

    Args:
        effort: `actors` (None: TIMED_ACTORS), `recorded`, `timesteps`, `rounds`.
    """
    single_thread()
    found = []
    for name in effort["actors"] or TIMED_ACTORS:
        of = subject(name, effort["recorded"])
        for rows, timesteps in ((1, effort["timesteps"]), (ROWS, (ROWS_TIMESTEPS,))):
            batch = None if rows == 1 else rows
            timings = take_turns(
                calls(of, timesteps, batch), recorded_stream(of.observations, batch), REFERENCE, rows, effort["rounds"]
            )
            found.append({"actor": name, "widths": list(of.actor.widths), "rows": rows,
                          "timings": [asdict(timing) for timing in timings]})  # fmt: skip
    return found


def calls(of: Subject, timesteps: Sequence[int], rows: int | None) -> dict[str, Decide]:
    """Return what is timed by its name: the ANN, sigma-delta, and every peer at every T."""
    torch_ann = TorchPolicy(of.actor, of.modules)
    named: dict[str, Decide] = {
        REFERENCE: onnx_runtime(of.actor, rows),
        ANN_IN_TORCH: torch_ann.act if rows is None else torch_ann.act_rows,
        SIGMA_DELTA: policy(of, Cell(SIGMA_DELTA)).act,
    }
    for steps in timesteps:
        for peer in TIMED_PEERS:
            acting = policy(of, Cell(peer, steps), counting=False)
            named[f"{peer}, T = {steps}"] = timed(acting, rows is None)
    return named


def timed(acting: Any, single: bool) -> Decide:
    """Return the call that decides, of one observation or of many."""
    if not isinstance(acting, PeerPolicy):
        return acting.act
    return acting.policy.act if single else acting.policy.act_rows
