"""`snn-policy export`: a spiking policy as ONNX graphs, C, TorchScript or a NIR graph, compared with it before it is
handed over."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.bundle.files import DECISION_FILE
from snn_policy.commands.common import (
    JsonOption,
    busy,
    check_directory,
    check_target,
    read_recording,
    read_spiking_policy,
    write_json,
)

if TYPE_CHECKING:
    from snn_policy.policy import SpikingPolicy

MOST_OBSERVATIONS = 1000
TORCHSCRIPT_FILE, NIR_FILE, GRAPHS = "policy.pt", "policy.nir", ("decision", "step")

Source = Annotated[str, typer.Argument(metavar="PATH", help="A bundle directory, or a shipped policy's name.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the files go, made if missing; by default into PATH.")
]
Verify = Annotated[bool, typer.Option(help="Compare what is written with the policy; exit code 2 where it differs.")]
Batch = Annotated[int | None, typer.Option(help="ONNX: fix the number of rows, for runtimes that need it.", min=1)]
Inputs = Annotated[
    str, typer.Option(help="ONNX, of dictionary observations: joined (one vector), or by-key (an input for each key).")
]
Counts = Annotated[bool, typer.Option(help="ONNX: an output `counts`: spikes, events and synaptic operations.")]
Period = Annotated[
    float | None,
    typer.Option(help="Seconds per decision, for the metadata; by default the environment's, where it tells."),
]
Observations = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Verify on this recording (.npy); by default on the environment's observations."),
]

AsC = Annotated[bool, typer.Option("--c", help="Write C99 source instead: policy.h, policy.c, main.c, …; policy.hpp.")]
AsArduino = Annotated[
    bool, typer.Option("--arduino", help="With --c: a library folder for the Arduino IDE and PlatformIO.")
]
Vectors = Annotated[
    bool | None,
    typer.Option(
        "--vectors/--no-vectors",
        help="With --c: weights as processors with vector instructions are fastest, or as few bytes as boards can "
        "have; by default in between.",
    ),
]
AsTorchScript = Annotated[
    bool,
    typer.Option("--torchscript", help="Write policy.pt instead: torch.jit.load(FILE)(obs), its memory inside."),
]
AsNir = Annotated[
    bool, typer.Option("--nir", help="Write policy.nir instead: IF neurons under rate coding, for neuromorphic tools.")
]
Prefix = Annotated[str, typer.Option(metavar="NAME", help="With --c: what every name in it begins with.")]


def export(
    path: Source,
    out: Out = None,
    verify: Verify = True,
    batch: Batch = None,
    counts: Counts = True,
    inputs: Inputs = "joined",
    control_period: Period = None,
    observations: Observations = None,
    c: AsC = False,
    torchscript: AsTorchScript = False,
    nir: AsNir = False,
    prefix: Prefix = "policy",
    arduino: AsArduino = False,
    vectors: Vectors = None,
    json: JsonOption = None,
) -> None:
    """Write decision.onnx and step.onnx for any ONNX runtime, with memories that the host carries (docs/onnx.md).

    Or, each with an option of its own: C99 source (docs/c.md), a TorchScript file that the deployment scripts of
    legged_gym, Isaac Lab and Unitree load (docs/torchscript.md), a NIR graph (docs/nir.md).

    [bold]Examples[/]:

    snn-policy export run/cheetah

    snn-policy export td3-HalfCheetah-v5 --out run/robot --batch 1

    snn-policy export td3-HalfCheetah-v5 --c --out run/robot/c

    snn-policy export td3-HalfCheetah-v5 --torchscript --out run/robot
    """
    from snn_policy.calibration.action_units import unit_name
    from snn_policy.policy import SpikingPolicy

    forms = [name for name, asked in (("--c", c), ("--torchscript", torchscript), ("--nir", nir)) if asked]
    if len(forms) > 1:
        raise ValueError(f"{' and '.join(forms)}: one form at a time; give the command once for each")
    check_target(json)
    for option, given in (("--arduino", arduino), ("--vectors", vectors is not None)):
        if given and not c:
            raise ValueError(f"{option}: a form of the C source; give --c, too")
    directory = out or _own_directory(path)
    check_directory(directory)
    policy = read_spiking_policy(path)
    if not isinstance(policy, SpikingPolicy):
        raise ValueError(f"{path}: exported already; give the bundle that it was exported from")
    if c:
        form = {"layout": "arduino" if arduino else "plain", "vectors": vectors}
        _export_c(policy, directory, prefix, verify, observations, json, form)
        return
    if torchscript:
        _export_torchscript(policy, directory, _Found(policy, observations, verify, control_period), verify, json)
        return
    if nir:
        from snn_policy.exporting.nir_graph import check_exportable

        check_exportable(policy.network)  # before anything is recorded
        _export_nir(policy, directory, _Found(policy, observations, verify, 1.0), verify, json)
        return
    found = _Found(policy, observations, verify, control_period)
    with busy("exporting"):
        made = policy.export_onnx(directory, batch=batch, counts=counts, control_period=found.period, inputs=inputs)
    compared = [_compared(policy, file, found.observations) for file in made.files] if verify else []
    document = {
        "out": str(directory),
        "files": [file.name for file in made.files],
        "step_left_out": made.step_left_out,
        "verified_on": found.source if verify else None,
        "verification": [verification.as_dict() for verification in compared],
        "action_unit": None if policy.actor.discrete else unit_name(policy.actor),
    }
    if not write_json(document, json):
        _print_result(document)
    failed = [verification.graph for verification in compared if not verification.passed]
    if failed:
        raise ValueError(f"{directory}: {' and '.join(failed)}.onnx differ from the policy by more than rounding")


def _export_c(
    policy: "SpikingPolicy", directory: Path, prefix: str, verify: bool, recording: Path | None, json: str | None,
    form: dict[str, Any],
) -> None:  # fmt: skip
    given = None if recording is None else read_recording(recording, policy.observation_shape)
    with busy("exporting"):
        made = policy.export_c(directory, prefix=prefix, observations=given, verify=verify, **form)
    files = [file.relative_to(directory).as_posix() for file in made.files]
    document = {"out": str(directory), "files": files, "flash_bytes": made.flash,
                "ram_bytes": made.ram, "verified_decisions": made.verified,
                "verification_left_out": made.left_out}  # fmt: skip
    if not write_json(document, json):
        print(f"{directory}: {', '.join(document['files'])}")
        print(f"constants {made.flash:,} bytes, state {made.ram:,} bytes")
        print(f"{made.verified:,} decisions equal to the bit" if made.verified else f"not verified: {made.left_out}")


def _export_torchscript(
    policy: "SpikingPolicy", directory: Path, found: "_Found", verify: bool, json: str | None
) -> None:
    with busy("exporting and comparing with the policy"):
        made = policy.export_torchscript(directory / TORCHSCRIPT_FILE, observations=found.observations, verify=verify,
                                         control_period=found.period)  # fmt: skip
    document = _document(policy, directory, made.file, found, made.verification)
    if not write_json(document, json):
        _print_result(document)
        print(f"next: torch.jit.load('{made.file}')(obs), and reset_memory() when an episode begins")


def _export_nir(policy: "SpikingPolicy", directory: Path, found: "_Found", verify: bool, json: str | None) -> None:
    with busy("exporting and comparing with the policy"):
        made = policy.export_nir(directory / NIR_FILE, observations=found.observations, verify=verify)
    document = _document(policy, directory, made.file, found, [made.verification] if made.verification else [])
    if not write_json({**document, "nodes": list(made.nodes)}, json):
        _print_result(document)
        print(f"nodes: {' → '.join(made.nodes)}; T, soft reset, residual, normaliser and head are in its metadata")


def _document(policy: "SpikingPolicy", directory: Path, file: Path, found: "_Found", compared: Any) -> dict[str, Any]:
    """Return what was written in one file, and how it compares."""
    from snn_policy.calibration.action_units import unit_name

    return {
        "out": str(directory),
        "files": [file.name],
        "verified_on": found.source if compared else None,
        "verification": [{**verification.as_dict(), "graph": file.name} for verification in compared],
        "action_unit": None if policy.actor.discrete else unit_name(policy.actor),
    }


def _own_directory(path: str) -> Path:
    if not Path(path).is_dir():
        raise ValueError(f"{path}: say where the files shall go with --out DIR")
    return Path(path)


class _Found:
    """Hold what the policy's environment says, as far as it can be made: observations, and the control period."""

    def __init__(self, policy: "SpikingPolicy", recording: Path | None, verify: bool, period: float | None) -> None:
        from snn_policy.exporting.verification import DECISIONS, plausible_observations

        self.period, self.observations, self.source = period, plausible_observations(policy.network), "a random walk"
        env_id = policy.actor.env_id
        if env_id is not None and (period is None or (verify and recording is None)):
            self._ask_environment(policy, env_id, DECISIONS, verify and recording is None)
        if recording is not None:
            self.observations = read_recording(recording, policy.observation_shape)
            self.source = str(recording)

    def _ask_environment(self, policy: "SpikingPolicy", env_id: str, steps: int, record: bool) -> None:
        from snn_policy.environments import make_environment

        try:
            environment = make_environment(env_id, policy)
        except (ValueError, ImportError, OSError):  # not installed here: a robot's build machine need not have it
            return
        tells = getattr(environment.unwrapped, "dt", None)
        environment.close()
        if self.period is None and isinstance(tells, float | int) and 0 < tells < 1e9:
            self.period = float(tells)
        if record:
            self.observations, self.source = policy.actor.collect(env_id, steps=steps), env_id


def _compared(policy: "SpikingPolicy", file: Path, observations: Any) -> Any:
    from snn_policy.exporting.verification import verify
    from snn_policy.protocol import as_batch

    with busy(f"comparing {file.name} with the policy"):
        batch, _ = as_batch(observations[:MOST_OBSERVATIONS], policy.observation_shape, "observations")
        return verify(policy.network, file, batch)


def _print_result(document: dict[str, Any]) -> None:
    print(f"{document['out']}: {', '.join(document['files'])}")
    if document.get("step_left_out"):
        print(f"no step.onnx: {document['step_left_out']}")
    for verified in document["verification"]:
        memories = ", ".join(f"{name} {value:.1e}" for name, value in verified["memory_differences"].items())
        difference = f"{verified['action_difference']:.1e} {document['action_unit']}"
        if document["action_unit"] is None:
            difference = "another choice" if verified["action_difference"] else "none"
        name = f"{verified['graph']}.onnx" if verified["graph"] in GRAPHS else verified["graph"]
        print(
            f"{name} on {document['verified_on']}: {verified['decisions']} decisions, flip rate "
            f"{verified['flip_rate']:.1e}, largest difference of an action {difference}; "
            f"of memories: {memories}"
        )
    if DECISION_FILE in document["files"]:
        print(f"next: snn-policy eval {document['out']}/{DECISION_FILE}")
