"""What a sweep converts to: settings of neurons, with or without compression before, from the tables of its file.

In a table, a list is a choice of values and makes one setting of each: `tolerance = [0.01, 0.02]` makes two. A list
inside it is one value per layer or stage: `alpha = [[0.3, 0.5]]` makes one. Inside tables nothing is split:
`calibration = {adaptive = [1, 3]}` is one, `calibration = [{iterations = 1}, {adaptive = [1, 3]}]` makes two.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.calibration.pilots import asked_of_pilots
from snn_policy.compression.settings import CompressionSettings, Target
from snn_policy.convert import check_settings
from snn_policy.engines import ENGINE_NAMES, check_engine, default_engine
from snn_policy.environments import EnvironmentSource
from snn_policy.spiking.settings import (
    DEFAULT_TOLERANCE,
    KINDS,
    NEURONS,
    NeuronSettings,
    SigmaDelta,
    as_record,
)
from snn_policy.spiking.spike_calibration import SpikeCalibration
from snn_policy.sweeps.tables import Table

MOST_SETTINGS = 10_000
"""Of one table: more are a slip, and would fill the memory before anything is said."""
COMPRESSION_KEYS = ("target", "steps", "seed", "block", "count")


@dataclass(frozen=True, eq=False)
class Setting:
    """Hold one way to convert.

    Attributes:
        neuron: settings as `convert` takes them.
        compression: what makes a sparse student first; None: the actor itself is converted.
        engine: as `convert` takes it; "auto" until an actor is known.
        label: for tables: the neuron with what the file says of it.
        table: the number of the table [[settings]] that it comes from, from 1.
    """

    neuron: NeuronSettings
    compression: CompressionSettings | None
    engine: str
    label: str
    table: int = 1

    @property
    def record(self) -> dict[str, Any]:
        """Return the neuron's settings as plain data, explicit thresholds included."""
        record = as_record(self.neuron)
        given = self.neuron.threshold
        if given is not None and not isinstance(given, str):
            record["threshold"] = [np.asarray(values, np.float64).tolist() for values in given]
        return record

    @property
    def compression_record(self) -> dict[str, Any] | None:
        """Return what is asked of the student as plain data."""
        if self.compression is None:
            return None
        chosen = {name: getattr(self.compression, name) for name in (*COMPRESSION_KEYS, "tolerance")}
        return {**chosen, "target": str(self.compression.target)}

    def engine_for(self, actor: Actor) -> str:
        """Return the engine's name, also where "auto" was asked for: the last bits of results may depend on it."""
        return default_engine(actor) if self.engine == "auto" else self.engine

    def check(self, actor: Actor, env: EnvironmentSource) -> None:
        """Refuse what does not fit the actor, before anything is computed.

        Raises:
            ValueError, UnsupportedLayerError: as `convert` and `compress` raise them.
        """
        check_engine(actor, self.engine)
        if self.compression is None:
            check_settings(actor, self.neuron, env if asked_of_pilots(self.neuron) else None)
        else:
            from snn_policy.compression.compress import check_compression

            check_compression(actor, self.compression.target, env)


def read_settings(table: Table, number: int) -> Iterator[Setting]:
    """Yield the settings that the `number`-th table [[settings]] stands for."""
    neuron = table.text("neuron", f"expected one of {', '.join(NEURONS)}", SigmaDelta.neuron)
    if neuron not in KINDS:
        table.fail("neuron", f"expected one of {', '.join(NEURONS)}")
    engine = table.text("engine", f"expected one of {', '.join(ENGINE_NAMES)}", "auto")
    names = [field.name for field in fields(KINDS[neuron])]
    choices = {name: _choices(table, name) for name in names}
    axes = [[(name, value) for value in given] for name, given in choices.items() if name in table]
    compressions = _choices(table, "compression", False)
    table.end()
    count = math.prod(map(len, axes)) * len(compressions)
    if count > MOST_SETTINGS:
        remedy = f"at most {MOST_SETTINGS:,}; give shorter lists, or one value per layer as a list inside the list"
        raise ValueError(table.told(f"its lists make {count:,} settings; {remedy}"))
    for chosen in product(*axes):
        given = dict(chosen)
        if KINDS[neuron] is SigmaDelta and not {"tolerance", "threshold"} & given.keys():
            given = {"tolerance": DEFAULT_TOLERANCE, **given}
        settings = _neuron(table, KINDS[neuron], given)
        for compression in compressions:
            student = _compression(table, compression, settings)
            label = f"{type(settings).__name__}({_listed(given)})"
            told = label if student is None else f"{_student(student)}, {label}"
            yield Setting(settings, student, engine, told, number)


def _choices(table: Table, key: str, default: Any = None) -> list[Any]:
    value = table.take(
        key, lambda given: given != [] and given != {}, "expected a value, or a list of choices", default
    )
    return value if isinstance(value, list) else [value]


def _neuron(table: Table, kind: type[Any], given: dict[str, Any]) -> NeuronSettings:
    """Return the settings object."""
    arguments = dict(given)
    try:
        if "calibration" in given:
            if not isinstance(given["calibration"], Mapping):
                table.fail("calibration", "expected a table such as {iterations = 1} or {adaptive = [1, 3]}")
            arguments["calibration"] = SpikeCalibration(**given["calibration"])
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        reason = str(error).replace("SpikeCalibration.__init__()", "calibration")
        raise ValueError(table.told(reason)) from None


def _compression(table: Table, given: Any, settings: NeuronSettings) -> CompressionSettings | None:
    if given is False:
        return None
    if not isinstance(given, Mapping) or given.keys() - set(COMPRESSION_KEYS) or "target" not in given:
        table.fail(
            "compression", f"expected false, or a table with target and any of {', '.join(COMPRESSION_KEYS[1:])}"
        )
    tolerance = settings.tolerance if isinstance(settings, SigmaDelta) else DEFAULT_TOLERANCE
    fitting = DEFAULT_TOLERANCE if not isinstance(tolerance, int | float) else float(tolerance)
    try:
        wanted = CompressionSettings(Target.parse(given["target"]), tolerance=fitting)
        return replace(wanted, **{name: value for name, value in given.items() if name != "target"})
    except (TypeError, ValueError) as error:
        raise ValueError(table.told(f"compression: {error}")) from None


def _student(compression: CompressionSettings) -> str:
    defaults = CompressionSettings(compression.target)
    other = {name: getattr(compression, name) for name in COMPRESSION_KEYS[1:]
             if getattr(compression, name) != getattr(defaults, name)}  # fmt: skip
    return f"compress({', '.join([str(compression.target), *([_listed(other)] if other else [])])})"


def _listed(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_spelled(value)}" for name, value in given.items())


def _spelled(value: Any) -> str:
    """Return a value as a label has it: texts bare, tables in braces, numbers as they are."""
    if isinstance(value, Mapping):
        return f"{{{_listed(value)}}}"
    if isinstance(value, list):
        long = np.size(value) > 16 if all(not isinstance(item, list) for item in value) else True
        return "[…]" if long else f"[{', '.join(_spelled(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
