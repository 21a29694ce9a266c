"""Instructions per decision on Cortex-M4 and M7, counted by the emulator, beside the same ANN in C.

    python -m benchmarks.cortex tqc-HalfCheetah-v3 td3-Hopper-v5

A name is a shipped policy's, an actor's of the folder that SNN_POLICY_REFERENCE_DIR names, or a path. Of an actor
with pruned weights there is one ANN more, which skips them, too. Needed: the environment
(MuJoCo) for observations, arm-none-eabi-gcc with newlib, and qemu-system-arm. All programs are compiled with the same
flags, and the policy's actions compared with `policy.act`'s to the bit. An instruction is not a cycle.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bare_metal import (
    BLOCKED_ANN,
    EXACT,
    PLAIN_ANN,
    TARGETS,
    missing_packages,
    run,
    write_ann,
    write_policy,
    write_sparse_ann,
)
from benchmarks.places import REFERENCE_ACTORS
from snn_policy import Actor, SpikingPolicy, convert, load_actor
from snn_policy.exported import names, path
from snn_policy.protocol import FloatArray

PROCESSORS = ("cortex-m7", "cortex-m4")
ANNS = {
    "ANN, dense": (PLAIN_ANN, False),
    "ANN, skipping zeros": (PLAIN_ANN, True),
    "ANN, dense, blocked, fused": (BLOCKED_ANN, False),
    "ANN, skipping zeros, blocked, fused": (BLOCKED_ANN, True),
}
SPARSE = "ANN, skipping zeros and pruned weights"


def source_of(name: str) -> Path:
    """Return the actor's path: shipped, a reference, or a path as it is."""
    if name in names():
        return path(name)
    reference = REFERENCE_ACTORS / f"{name}.safetensors"
    return reference if reference.exists() else Path(name)


def instructions(
    actor: Actor, policy: SpikingPolicy, stream: FloatArray, processor: str, flags: tuple[str, ...]
) -> dict[str, float]:
    """Return instructions per decision, by program.

    Raises:
        SystemExit: the policy's actions on the processor are not `policy.act`'s.
    """
    target, found = TARGETS[processor], {}
    policy.reset()
    expected = np.array([policy.act(obs) for obs in stream], np.float32).reshape(len(stream), -1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "policy")
        outcome = run(target, write_policy(policy, stream, folder), folder, flags)
        if not np.array_equal(outcome.actions, expected):
            raise SystemExit(f"{actor.name} on {processor}: the actions differ from policy.act's")
        found["spiking policy"] = outcome.instructions
        for index, (name, (source, skip)) in enumerate(ANNS.items()):
            folder = Path(scratch, str(index))
            found[name] = run(target, write_ann(actor, stream, folder, skip, source), folder, flags).instructions
        if actor.synapses < actor.dense_macs:
            folder = Path(scratch, "sparse")
            found[SPARSE] = run(target, write_sparse_ann(actor, stream, folder), folder, flags).instructions
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--decisions", type=int, default=1000)
    parser.add_argument("--optimise", default="-O3", help="the compiler's level, of every program")
    given = parser.parse_args()
    missing = missing_packages(TARGETS["cortex-m7"])
    if missing:
        raise SystemExit(f"not installed (Debian's packages): {' '.join(missing)}")
    for command in ("arm-none-eabi-gcc", "qemu-system-arm"):
        print(subprocess.run([command, "--version"], capture_output=True, text=True).stdout.splitlines()[0])
    for name in given.names:
        actor = load_actor(source_of(name))
        policy = convert(actor, actor.collect(str(actor.env_id), steps=2_000, seed=0))
        stream = np.asarray(
            actor.collect(str(actor.env_id), steps=given.decisions, seed=1)[: given.decisions], np.float32
        )
        for processor in PROCESSORS:
            found = instructions(actor, policy, stream, processor, (given.optimise, *EXACT))
            print(f"\n{name} on {processor}, {len(stream)} decisions, {given.optimise}")
            for program, count in found.items():
                print(f"  {program:<38}{count:>9,.0f}   policy/this {found['spiking policy'] / count:.2f}")


if __name__ == "__main__":
    main()
