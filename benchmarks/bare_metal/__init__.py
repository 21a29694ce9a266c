"""Programs for other processors: cross-compiled, run in an emulator, their actions read back and instructions counted.

A program is a contestant (a policy exported as C, or the plain ANN) and `decide.c`, which lets it decide on a stream of
observations that is compiled in. Cortex-M programs run without an operating system, on MPS2 boards (`cortex_m.c`).
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plain_c import WIDEST_BLOCK, packed
from snn_policy import Actor, SpikingPolicy
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Linear
from snn_policy.protocol import FloatArray

HERE = Path(__file__).parent
PLAIN_ANN, BLOCKED_ANN, SPARSE_ANN = HERE.parent / "plain_ann.c", HERE / "blocked_ann.c", HERE.parent / "sparse_ann.c"
EXACT = ("-ffp-contract=off",)
INSTRUCTIONS_PER_TICK = 40
"""-icount shift=0: an instruction per virtual nanosecond; the boards' SysTick: 25 MHz."""
BARE = ("-mthumb", "-nostartfiles", "-static", "-T", str(HERE / "mps2.ld"))
QEMU_BOARD = ("qemu-system-arm", "-nographic", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=text",
              "-semihosting-config", "enable=on,target=native,chardev=text",
              "-icount", "shift=0", "-kernel")  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A processor to compile for and its emulator.

    Attributes:
        compiler, emulator: commands; the program's path goes behind the emulator's.
        board: the C file with text output and clock.
        packages: Debian's, by command.
        counts: whether the emulator counts instructions.
    """

    compiler: tuple[str, ...]
    emulator: tuple[str, ...]
    board: str
    packages: dict[str, str]
    counts: bool = True


_ARM_PACKAGES = {"arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"}


def _cortex_m(processor: str, unit: str, machine: str, floats: str = "hard") -> Target:
    compiler = ("arm-none-eabi-gcc", f"-mcpu={processor}", f"-mfpu={unit}", f"-mfloat-abi={floats}", *BARE)
    emulator = (QEMU_BOARD[0], "-machine", machine, *QEMU_BOARD[1:])
    return Target(compiler, emulator, "cortex_m.c", _ARM_PACKAGES)


TARGETS = {
    "aarch64": Target(("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",), "hosted.c",
                      {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
                       "qemu-aarch64": "qemu-user"}, counts=False),
    "cortex-m3": _cortex_m("cortex-m3", "auto", "mps2-an385", "soft"),
    "cortex-m4": _cortex_m("cortex-m4", "fpv4-sp-d16", "mps2-an386"),
    "cortex-m7": _cortex_m("cortex-m7", "fpv5-sp-d16", "mps2-an500"),
    "cortex-m7-double": _cortex_m("cortex-m7", "fpv5-d16", "mps2-an500"),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a program did.

    Attributes:
        actions: (decisions, actions) float32, the bits that it wrote.
        instructions: per decision, the mean; 0 where the emulator does not count.
    """

    actions: FloatArray
    instructions: float


def missing_packages(target: Target) -> tuple[str, ...]:
    """Return the Debian packages whose commands are not installed here."""
    return tuple(package for command, package in target.packages.items() if not shutil.which(command))


def write_policy(policy: SpikingPolicy, observations: FloatArray, folder: Path) -> tuple[Path, ...]:
    """Write the policy as C with its stream of observations (decisions, …); returns the files to compile."""
    policy.export_c(folder, prefix="contestant", verify=False, vectors=False)
    stream = observations.reshape(len(observations), -1)
    text = f"""#include "policy.h"
{_stream(stream)}
static contestant_state policy_state;
static void contestant_begin(void) {{ contestant_reset(&policy_state); }}
static int contestant_decide(const float *obs, float *to) {{ return contestant_act(&policy_state, obs, to); }}
#define contestant_reset contestant_begin
#define contestant_act contestant_decide
"""
    (folder / "contestant.h").write_text(text)
    return (folder / "policy.c",)


def write_ann(
    actor: Actor, observations: FloatArray, folder: Path, skip: bool = False, source: Path = PLAIN_ANN
) -> tuple[Path, ...]:
    """Write the actor's layers (linear, ReLU; no head) for the plain ANN; `skip`: it passes over inputs that are zero.

    Raises:
        ValueError: a layer that the plain ANN does not have.
    """
    layers = _relu_layers(actor)
    sizes = [layers[0].inputs, *(layer.outputs for layer in layers)]
    tables = [_table(f"weight{i}", layer.weight.T) + _table(f"bias{i}", layer.bias) for i, layer in enumerate(layers)]
    names = [", ".join(f"{kind}{i}" for i in range(len(layers))) for kind in ("weight", "bias")]
    text = f"""{_stream(actor.inputs(observations).reshape(len(observations), -1))}
#define CONTESTANT_ACTIONS {sizes[-1]}
{"".join(tables)}
static const float *const weights[] = {{{names[0]}}}, *const biases[] = {{{names[1]}}};
static const int32_t sizes[] = {{{", ".join(map(str, sizes))}}};
static float hidden[{2 * max(sizes)}];
void plain_ann(const float *const *weights, const float *const *biases, const int32_t *sizes, int32_t layers,
               int32_t widest, int32_t skip, const float *obs, float *hidden, float *y);
static void contestant_reset(void) {{}}
static void contestant_act(const float *obs, float *y) {{
    plain_ann(weights, biases, sizes, {len(layers)}, {max(sizes)}, {int(skip)}, obs, hidden, y);
}}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contestant.h").write_text(text)
    return (source,)


def write_sparse_ann(actor: Actor, observations: FloatArray, folder: Path) -> tuple[Path, ...]:
    """Write the compressed actor's layers for `sparse_ann.c`: it skips inputs, and blocks of weights, that are zero.

    Raises:
        ValueError: as `write_ann`.
    """
    layers = _relu_layers(actor)
    tables, entries = "", []
    for i, layer in enumerate(layers):
        blocks = packed(layer, vectors=False)
        weights = layer.weight.T if blocks is None else blocks.weights
        tables += _table(f"weight{i}", weights) + _table(f"bias{i}", layer.bias)
        lists = "0, 0"
        if blocks is not None:
            tables += _whole_numbers(f"starts{i}", blocks.starts) + _whole_numbers(f"columns{i}", blocks.columns)
            lists = f"starts{i}, columns{i}"
        block = 0 if blocks is None else blocks.block
        entries.append(f"{{weight{i}, bias{i}, {lists}, {layer.inputs}, {layer.outputs}, {block}}}")
    widest = -(-max(layer.outputs for layer in layers) // WIDEST_BLOCK) * WIDEST_BLOCK
    text = f"""#include "sparse_ann.h"
{_stream(actor.inputs(observations).reshape(len(observations), -1))}
#define CONTESTANT_ACTIONS {layers[-1].outputs}
{tables}
static const sparse_layer layers[] = {{{", ".join(entries)}}};
static float hidden[{2 * widest}], padded[{widest}];
static void contestant_reset(void) {{}}
static void contestant_act(const float *obs, float *y) {{
    sparse_ann(layers, {len(layers)}, {widest}, obs, hidden, padded);
    __builtin_memcpy(y, padded, sizeof(float) * CONTESTANT_ACTIONS);
}}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contestant.h").write_text(text)
    return (SPARSE_ANN,)


def _relu_layers(actor: Actor) -> list[Linear]:
    layers = [layer for layer in actor.layers if isinstance(layer, Linear)]
    if len(layers) < len(actor.layers) or any(layer.activation != RELU for layer in layers[:-1]):
        raise ValueError(f"{actor.name}: the plain ANN has linear layers and ReLU only")
    return layers


def run(
    target: Target, sources: tuple[Path, ...], folder: Path, flags: tuple[str, ...] = ("-O2", *EXACT),
    timeout: float = 300,
) -> Outcome:  # fmt: skip
    """Compile a contestant and run it.

    Raises:
        RuntimeError: the compiler or the program failed, with what it said.
    """
    program = folder / "program.elf"
    files = [*map(str, sources), *(str(HERE / name) for name in ("decide.c", target.board))]
    include = [f"-I{folder}", f"-I{HERE}", f"-I{HERE.parent}"]
    _call([*target.compiler, "-std=gnu99", *flags, *include, *files, "-o", str(program)], timeout)
    lines = _call([*target.emulator, str(program)], timeout).split()
    if lines[-2:-1] != ["ticks"]:
        raise RuntimeError(f"{target.emulator[0]}: the program ended with {' '.join(lines[-2:])!r}")
    bits = np.array([int(line, 16) for line in lines[:-2]], np.uint32)
    actions = bits.view(np.float32).reshape(_decisions(folder), -1)
    instructions = INSTRUCTIONS_PER_TICK * int(lines[-1]) / len(actions) if target.counts else 0.0
    return Outcome(actions, instructions)


def _call(command: list[str], timeout: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def _decisions(folder: Path) -> int:
    (line,) = [line for line in (folder / "contestant.h").read_text().splitlines() if "CONTESTANT_DECISIONS" in line]
    return int(line.split()[-1])


def _stream(rows: FloatArray) -> str:
    values = "".join(f"{{{', '.join(map(_literal, row))}}},\n" for row in rows)
    return (f"#include <stdint.h>\n#define CONTESTANT_DECISIONS {len(rows)}\n"
            f"static const float observations[{len(rows)}][{rows.shape[1]}] = {{\n{values}}};\n")  # fmt: skip


def _table(name: str, values: Any) -> str:
    return f"static const float {name}[] = {{{', '.join(map(_literal, np.ravel(values)))}}};\n"


def _whole_numbers(name: str, values: Any) -> str:
    return f"static const int32_t {name}[] = {{{', '.join(map(str, values.tolist()))}}};\n"


def _literal(value: Any) -> str:
    return f"{float(np.float32(value)).hex()}f"
