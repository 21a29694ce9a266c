"""`snn-policy inspect`: what a file is, its layers, and what to say to convert it, or why it cannot be."""

import math
import re
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import FORMATS, JsonOption, check_target, is_exported, place_of, read_actor, write_json
from snn_policy.commands.convert import (
    NO_STATISTICS,
    Activation,
    High,
    Low,
    ObservationShape,
    Output,
    Prefix,
    VecNormalize,
    source_options,
)
from snn_policy.commands.inspect_graph import described_graph, graph_lines, in_words

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.ann.layers import Layer

NOT_CONVERTIBLE = 1
OF_CHAINS = ("onnx", "c", "torchscript", "nir")
"""What a conversion can be exported as; NIR where its neurons are IF."""
OF_GRAPHS = ("onnx", "c", "torchscript")
_EXAMPLES = {
    "activation": "elu",
    "prefix": "NAME",
    "output": "NAME",
    "observation_shape": "N[,N…]",
    "low": "-1",
    "high": "1",
}

Source = Annotated[str, typer.Argument(metavar="FILE", help=f"A shipped policy's name, or {FORMATS}.")]


def inspect(
    source: Source,
    json: JsonOption = None,
    vecnormalize: VecNormalize = None,
    low: Low = None,
    high: High = None,
    output: Output = None,
    observation_shape: ObservationShape = None,
    activation: Activation = None,
    prefix: Prefix = None,
) -> None:
    """Say what a file is, its layers, normaliser and head, and what to type to convert it; nothing is converted.

    Exit code 0 if it can be converted as said here, 1 if not: then the reason and the way out are shown.

    [bold]Examples[/]:

    snn-policy inspect policy.pt

    snn-policy inspect model_500.pt --activation elu --json
    """
    from snn_policy.sources import file_meant
    from snn_policy.sources.kinds import kind_in_words

    check_target(json)
    given = source_options(vecnormalize, low, high, output, observation_shape, activation, prefix)
    path = file_meant(place_of(source))
    if not path.exists() and not Path(f"{path}.safetensors").exists():
        raise ValueError(f"{source}: no such file; expected {FORMATS}")
    said = {key: value for key, value in given.items() if value is not None}
    found: dict[str, Any] = {"file": source, "what": kind_in_words(path)}
    found |= _looked_at(source, path, said)
    if not write_json(found, json):
        print("\n".join(_lines(found)))
    if not found["converts"]:
        raise typer.Exit(NOT_CONVERTIBLE)


def _looked_at(source: str, path: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Read it, and describe the actor or the refusal."""
    from snn_policy.errors import UnsupportedLayerError

    if is_exported(path):
        return {"converts": False, "reason": "it is a spiking policy already", "command": f"snn-policy eval {source}"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            actor = read_actor(source, **said)
        except UnsupportedLayerError as refusal:
            layer = {"path": refusal.path, "kind": refusal.kind, "remedy": refusal.remedy}
            return {"converts": False, "reason": refusal.reason, **layer, "command": None}
        except Exception as problem:  # whatever it is: this command answers, and never with a traceback
            reason = " ".join(str(problem).split()).removeprefix(f"{path}: ") or type(problem).__name__
            return {"converts": False, "reason": reason, "command": _with_missing(source, said, reason)}
    warned = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return {"converts": True, **_described(actor), "warnings": warned, "command": _command(source, said, actor)}


def _described(actor: "Actor") -> dict[str, Any]:
    from snn_policy.protocol import KeyedShape

    shape, norm = actor.observation_shape, actor.normaliser
    keys = {key: list(part) for key, part in shape.parts.items()} if isinstance(shape, KeyedShape) else None
    clip = None if norm is None or math.isinf(norm.clip) else float(norm.clip)
    return {
        "name": actor.name,
        "environment": actor.env_id,
        "observation_shape": list(shape),
        "observation_keys": keys,
        "normaliser": None if norm is None else {"shape": list(norm.mean.shape), "clip": clip},
        "network": actor.graph.kind,
        "layers": [_layer(layer) for layer in actor.layers] if actor.graph.is_chain else None,
        "stages": None if actor.graph.is_chain else described_graph(actor.graph),
        "recurrent": actor.recurrent,
        "memory": sum(array.shape[1] for array in actor.initial_state(1)),
        "head": {"kind": actor.head.kind, "action_shape": list(actor.action_shape), "choices": list(actor.head.choices),
                 "low": _finite(actor.low), "high": _finite(actor.high)},
        "multiply_accumulates": actor.dense_macs,
        "analog_multiply_accumulates": actor.graph.cell_macs,
        "neurons": _neurons(actor),
        "exports": list(OF_CHAINS if actor.graph.is_chain else OF_GRAPHS),
    }  # fmt: skip


def _layer(layer: "Layer") -> dict[str, Any]:
    return {
        "type": type(layer).__name__,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "weight": list(layer.weight.shape),
        "activation": in_words(layer.activation),
        "multiply_accumulates": layer.macs,
    }


def _finite(bounds: Any) -> list[Any]:
    return [float(bound) if math.isfinite(bound) else None for bound in bounds.ravel()]


def _neurons(actor: "Actor") -> list[str]:
    """Return the kinds of neurons that can stand for all its hidden layers."""
    from snn_policy.convert import check_settings
    from snn_policy.spiking.settings import settings_of

    fitting = []
    for kind in ("sigma-delta", "if", "snm", "mt"):
        try:
            check_settings(actor, settings_of(kind))
        except ValueError:
            continue
        fitting.append(kind)
    return fitting


def _options(said: dict[str, Any]) -> str:
    words = []
    for key, value in said.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(NO_STATISTICS if value is False else value)
        name = f"--{key.replace('_', '-')}"
        words.append(f"{name}={text}" if text.startswith("-") else f"{name} {shlex.quote(text)}")
    return " ".join(words)


def _command(source: str, said: dict[str, Any], actor: "Actor") -> str:
    environment = "" if actor.env_id else "--env ID"
    words = ["snn-policy convert", shlex.quote(source), _options(said), environment, "--out DIR"]
    return " ".join(word for word in words if word)


def _with_missing(source: str, said: dict[str, Any], reason: str) -> str | None:
    """Return the command line with examples for the arguments that the reason asks for."""
    asked = [key for key in re.findall(r"\b(\w+)=", reason) if key in _EXAMPLES and key not in said]
    if not asked:
        return None
    return f"snn-policy inspect {shlex.quote(source)} {_options(said | {key: _EXAMPLES[key] for key in asked})}"


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['file']}: {found['what']}"]
    if not found["converts"]:
        where = f"{found['path']} ({found['kind']}): " if "path" in found else ""
        lines.append(f"cannot be converted: {where}{found['reason']}")
        lines += [f"way out: {found['remedy']}"] if found.get("remedy") else []
        return lines + ([f"try: {found['command']}"] if found["command"] else [])
    lines += [f"├─ {line}" for line in _parts(found)]
    lines += [] if found["stages"] is None else [f"├─ {found['network']}", *graph_lines(found["stages"])]
    head = found["head"]
    discrete = f"argmax of {', '.join(map(str, head['choices']))} choices"
    lines.append(f"└─ action: {discrete if head['choices'] else _bounds(head)}")
    chain = found["stages"] is None
    lines.append(f"{_work(found)}; neurons: {_joined(found['neurons'], chain)}")
    lines += [] if chain else [f"exports: {', '.join(found['exports'])} (nir, compress: chains only)"]
    lines.append(f"environment: {found['environment'] or 'not known'}")
    lines += [f"note: {' '.join(note.split())}" for note in found["warnings"]]
    return [*lines, f"to convert: {found['command']}"]


def _work(found: dict[str, Any]) -> str:
    work, analog = found["multiply_accumulates"], found["analog_multiply_accumulates"]
    kept = f", {analog:,} of them analog (norms, gates)" if analog else ""
    memory = f"; recurrent, {found['memory']:,} numbers are remembered" if found["recurrent"] else ""
    return f"{work:,} multiply-accumulates per decision{kept}{memory}"


def _joined(neurons: list[str], chain: bool) -> str:
    others = [kind for kind in ("if", "snm", "mt") if kind not in neurons]
    reason = "every hidden layer must be ReLU" if chain else "chains of ReLU layers only"
    return ", ".join(neurons) + (f" ({', '.join(others)}: {reason})" if others else "")


def _parts(found: dict[str, Any]) -> list[str]:
    keys = found["observation_keys"]
    parts = [f"observation: {'×'.join(map(str, found['observation_shape']))}"]
    if keys:
        parts[0] += f" = {' + '.join(f'{key} {chr(215).join(map(str, part))}' for key, part in keys.items())}"
    norm = found["normaliser"]
    if norm is not None:
        clip = "" if norm["clip"] is None else f", clipped to ±{norm['clip']:g}"
        parts.append(f"normaliser: (x − mean) / scale, {'×'.join(map(str, norm['shape']))}{clip}")
    for index, layer in enumerate(found["layers"] or ()):
        shape = "×".join(map(str, layer["weight"]))
        activation = f", {layer['activation']}" if layer["activation"] else ""
        parts.append(f"{index} {layer['type']}: {layer['inputs']} → {layer['outputs']}{activation}   [{shape}]")
    return parts


def _bounds(head: dict[str, Any]) -> str:
    pairs = list(zip(head["low"], head["high"], strict=True))
    named = [f"[{'−∞' if low is None else f'{low:g}'}, {'∞' if high is None else f'{high:g}'}]" for low, high in pairs]
    apart = named[:1] if len(set(named)) == 1 else named
    bounded = "unbounded (say --low and --high)" if set(pairs) == {(None, None)} else f"within {' × '.join(apart)}"
    return f"{'×'.join(map(str, head['action_shape']))} {head['kind']}, {bounded}"
