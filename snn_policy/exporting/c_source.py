"""A spiking policy as C: the compiled core's own files and this policy's program, in one self-contained `policy.c`.

C99 and C++, no heap, no libm, no global state: what a decision needs lies in a struct that the caller owns. The core is
the very one that Python runs, so the actions are equal to the bit (`verify_c`).
"""

import ctypes
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.ann.cells import Elementwise
from snn_policy.atomic_files import write_together
from snn_policy.bundle import Bundle
from snn_policy.bundle.other_exports import network_digest
from snn_policy.checks import require
from snn_policy.engines.core import build
from snn_policy.engines.core.buffers import LANES, aligned, count_size
from snn_policy.engines.core.engine import REDERIVE_AFTER, EventEngine, NoCoreError
from snn_policy.engines.core.layout import Layout, Writer
from snn_policy.engines.core.records import CELLS
from snn_policy.exporting import c_libraries, c_texts
from snn_policy.protocol import Array, FloatArray, as_batch
from snn_policy.spiking.neurons import SigmaDeltaNeurons

WORK_ROWS = 12
"""SNN_WORK_ROWS of program.h."""
LEAST_DECISIONS = 1000
LAYOUTS = ("plain", "arduino")
STRICT = ("-std=c99", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


@dataclass(frozen=True)
class ExportedC:
    """Say what was written.

    Attributes:
        files: the paths.
        flash: bytes of constants, the code itself not counted.
        ram: bytes of the state struct.
        verified: decisions that were compared, 0 where there is no compiler (`left_out` says so).
    """

    files: tuple[Path, ...]
    flash: int
    ram: int
    verified: int
    left_out: str | None = None


def export_c(
    bundle: Bundle, directory: str | Path, *, prefix: str = "policy", observations: Any = None,
    verify: bool = True, layout: str = "plain", vectors: bool | None = None,
) -> ExportedC:  # fmt: skip
    """Write the policy as C, and compare it with the policy where a compiler is there.

    Args:
        directory: made if missing; files of an earlier export in it are replaced.
        prefix: what every name begins with: prefix_reset, prefix_act, …
        observations: (N, *shape) to verify on; by default a random walk.
        layout: "plain": policy.h, policy.hpp, policy.c, main.c and CMakeLists.txt; "arduino": a library folder for the
            Arduino IDE and PlatformIO, its files in src/ named snn_ and the prefix.
        vectors: True: as a processor with vector instructions is fastest: rows of weights are padded, and sparse layers
            keep zeros where leaving them out takes longer. False: as few bytes as possible, for boards. By default
            padded rows (but for boards: "arduino"), and no zeros. The bits are the same.

    Raises:
        ValueError: a prefix that is no C identifier, another layout, observations that do not fit, or a C policy that
            does not act as this one.
    """
    fits = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", prefix) is not None and not prefix.lower().startswith("snn_")
    require(fits, f"prefix {prefix!r}: expected a C identifier that does not begin with snn_")
    require(layout in LAYOUTS, f"layout {layout!r}: expected {' or '.join(LAYOUTS)}")
    if observations is not None:
        observations, _ = as_batch(observations, bundle.actor.observation_shape, "observations")
    place = Path(directory)
    wide = layout == "plain" if vectors is None else vectors
    blocks = Writer(bundle.network, REDERIVE_AFTER, LANES if wide else 1, compact=vectors is not True).layout()
    sizes = _sizes(bundle, blocks)
    texts = _files(bundle, blocks, prefix, sizes, layout)
    for name in texts:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
    write_together({place / name: text.encode() for name, text in texts.items()})
    flash = sum(block.nbytes for block in vars(blocks).values())
    ram = 4 * (sizes["STATE"] + sizes["FLOATS"] + sizes["INTEGERS"]) + 8 * sizes["COUNTS"]
    verified, left_out = 0, "not asked for"
    if verify:
        (source,) = [name for name in texts if name.endswith(".c") and name != "main.c"]
        try:
            verified, left_out = verify_c(bundle, place, prefix, observations, source), None
        except (build.NoCompilerError, NoCoreError) as reason:
            left_out = str(reason)
    return ExportedC(tuple(place / name for name in texts), flash, ram, verified, left_out)


def _files(
    bundle: Bundle, blocks: Layout, prefix: str, sizes: dict[str, int], arrangement: str
) -> dict[str, str]:  # fmt: skip
    """Return the texts to write, by path."""
    described = _described(bundle)
    header = c_texts.header(prefix, sizes, described, network_digest(bundle.network))
    source = _source(bundle, blocks, prefix)
    if arrangement == "arduino":
        return c_libraries.arduino_library(prefix, described, header, source)
    return {
        "policy.h": header,
        "policy.hpp": c_libraries.cpp_header(prefix, "policy.h"),
        "policy.c": source,
        "main.c": c_texts.example(prefix),
        "CMakeLists.txt": c_texts.CMAKE.replace("@prefix@", prefix),
    }


def verify_c(
    bundle: Bundle, directory: Path, prefix: str, observations: Any = None, source: str = "policy.c"
) -> int:  # fmt: skip
    """Compile the C policy and compare its actions with the policy's, to the bit; returns the number of decisions.

    Both are reset before the first decision, and once more half way through.

    Args:
        directory, prefix, observations: as for `export_c`.
        source: the file in the directory.

    Raises:
        ValueError: they differ, or the compiler refused.
        NoCompilerError: no compiler.
    """
    twin = EventEngine(bundle.network).session(1)
    shape = bundle.actor.observation_shape
    given = _walk(bundle) if observations is None else as_batch(observations, shape, "observations")[0]
    stream = given[np.arange(max(LEAST_DECISIONS, len(given))) % len(given)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        target = Path(scratch, "policy.so")
        command = build.compiler()
        flags = (*STRICT, *build.POSITION_INDEPENDENT, "-shared")
        try:
            build._run([*command, *flags, str(directory / source), "-o", str(target)])
        except build.NoCompilerError as refusal:
            raise ValueError(f"{directory}/{source} does not compile: {refusal}") from None
        library = ctypes.CDLL(str(target))
        if not hasattr(library, f"{prefix}_act"):
            raise build.NoCompilerError(f"{command[0]} exports nothing from a DLL by itself; take MinGW's gcc")
        getattr(library, f"{prefix}_state_size").restype = ctypes.c_size_t
        state = aligned(getattr(library, f"{prefix}_state_size")(), np.uint8)
        action = np.zeros(len(bundle.actor.head.choices) or bundle.actor.head.outputs, np.float32)
        reset, act = getattr(library, f"{prefix}_reset"), getattr(library, f"{prefix}_act")
        for step, obs in enumerate(stream):
            if step in (0, len(stream) // 2):
                reset(ctypes.c_void_p(state.ctypes.data))
                twin.store(bundle.network.initial_state(1))
            values = np.ascontiguousarray(obs.ravel(), np.float32)
            act(*(ctypes.c_void_p(array.ctypes.data) for array in (state, values, action)))
            twin.accept(obs)
            twin.run()
            expected = np.atleast_1d(twin.actions_like(obs))
            if not np.array_equal(action, expected):
                raise ValueError(f"{directory}/{source}: decision {step} gives {action}, the policy {expected}")
    return len(stream)


def _walk(bundle: Bundle) -> FloatArray:
    """Return a slow random walk around what the policy was calibrated on, as far as it shows."""
    rng, shape = np.random.default_rng(0), bundle.actor.observation_shape
    noise = rng.normal(size=(LEAST_DECISIONS, *shape)).astype(np.float32)
    for row in range(1, len(noise)):
        noise[row] = 0.9 * noise[row - 1] + 0.44 * noise[row]
    normaliser, neurons = bundle.actor.normaliser, bundle.network.neurons
    offset = neurons.offset.reshape(shape) if isinstance(neurons, SigmaDeltaNeurons) else np.float32(0)
    values = noise + offset
    return values if normaliser is None else values * normaliser.scale + normaliser.mean


def _sizes(bundle: Bundle, blocks: Layout) -> dict[str, int]:
    """Return the lengths that policy.h names."""
    header, neurons = blocks.header[0], bundle.network.neurons
    trains = 2 * int(header["slots"]) if isinstance(neurons, SigmaDeltaNeurons) else neurons.timesteps
    row = int(header["row_size"])
    return {
        "INPUTS": int(blocks.stages[0]["width"]),
        "ACTIONS": int(header["action_size"]),
        "STATE": max(1, int(header["state_size"])),
        "FLOATS": (WORK_ROWS + 2 + 2 * trains) * row,
        "INTEGERS": trains * row + trains + 1,
        "COUNTS": count_size(len(bundle.network.spiking_widths)),
    }


def _described(bundle: Bundle) -> str:
    """Return one line for the comment on top; whatever a name may hold, it cannot end the comment."""
    return re.sub(r"[^A-Za-z0-9 ._:,+()-]", "?", f"{bundle.actor.name}, {bundle.conversion.get('neuron', '')}")[:200]


def _source(bundle: Bundle, blocks: Layout, prefix: str) -> str:
    left_out = dict(_left_out(bundle, blocks))
    seen = set(left_out)
    core = "\n".join(line for name in ("decide.h", "workspace.h") for line in _inlined(name, seen))
    tables = [
        _table("float", "parameters", map(_number, blocks.parameters)),
        _table("int32_t", "indices", map(str, blocks.indices)),
        f"static const snn_header header = {{{_fields(blocks.header[0])}}};\n",
        _record("snn_stage", "stages", blocks.stages),
        _record("snn_connection", "connections", blocks.connections),
    ]
    functions = c_texts.functions(prefix, len(bundle.network.spiking_widths))
    return "\n".join([c_texts.before_core(left_out.values()), core, *tables, functions])


def _left_out(bundle: Bundle, blocks: Layout) -> Iterator[tuple[str, str]]:
    """Return the files of the core that the policy does not need, with the macros by which others do without them."""
    if isinstance(bundle.network.neurons, SigmaDeltaNeurons):
        yield "membrane_decision.h", "SNN_WITHOUT_MEMBRANES"
    else:
        yield "sigma_delta_decision.h", "SNN_WITHOUT_SIGMA_DELTA"
    if not blocks.stages["norm"].any():
        yield "norm.h", "SNN_WITHOUT_NORMS"
    if (blocks.stages["cell"] == CELLS.index(Elementwise)).all():
        yield "gates.h", "SNN_WITHOUT_GATES"
    if not blocks.connections["delayed"].any():
        yield "delayed.h", "SNN_WITHOUT_DELAYED"


def _inlined(name: str, seen: set[str]) -> Iterator[str]:
    """Return the lines of a core file, those that it includes before it, each file once."""
    if name in seen:
        return
    seen.add(name)
    for line in (build.SOURCES / name).read_text().splitlines():
        included = re.fullmatch(r'#include "(.+)"', line)
        if included is None:
            yield line
        else:
            yield from _inlined(included[1], seen)


def _number(value: Any) -> str:
    """Return a float32 literal that reads back as the same number; infinities as the largest number."""
    limit = np.finfo(np.float32).max
    text = f"{np.clip(np.float32(value), -limit, limit):.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def _table(kind: str, name: str, values: Array) -> str:
    listed = list(values) or ["0"]
    lines = [", ".join(listed[i : i + 12]) for i in range(0, len(listed), 12)]
    return f"static const {kind} {name}[{len(listed)}] = {{\n    " + ",\n    ".join(lines) + ",\n};\n"


def _record(kind: str, name: str, records: Array) -> str:
    rows = "".join(f"    {{{_fields(record)}}},\n" for record in records)
    return f"static const {kind} {name}[{len(records)}] = {{\n{rows}}};\n"


def _fields(record: Any) -> str:
    kinds = record.dtype
    return ", ".join(_number(record[name]) if kinds[name] == np.float32 else str(int(record[name]))
                     for name in kinds.names)  # fmt: skip
