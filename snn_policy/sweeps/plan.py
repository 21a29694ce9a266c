"""A sweep's file: TOML → a plan whose every part has been checked, before anything takes time. Form: docs/sweeps.md."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from snn_policy.actor import Actor
from snn_policy.calibration.pilots import Pilot, asked_of_pilots
from snn_policy.checks import number, whole
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sweeps.cell_record import LONGEST_TEXT, shows
from snn_policy.sweeps.cells import Cell, PlannedActor, Protocol, Purpose, Seeds
from snn_policy.sweeps.contents import actor_bytes, digest
from snn_policy.sweeps.digests import hash_of
from snn_policy.sweeps.places import Place, read_place
from snn_policy.sweeps.settings import Setting, read_settings
from snn_policy.sweeps.tables import Table, read_toml

NAME = re.compile(r"[\w.+-]{1,100}")
HIGHEST_SEED, MOST_EPISODES = 2**31 - 1, 1_000_000
DEFAULT_EPISODES, DEFAULT_SEED, DEFAULT_BATCH, DEFAULT_WITHIN = 100, 5000, 10, 0.01
DEFAULT_STEPS = 10_000
SOURCE_OPTIONS = ("vecnormalize", "observation_shape", "low", "high", "output", "activation", "prefix")
"""Of `load_actor`; paths among them start, as `source`, in the folder of the file."""
CHOICES = ("sweep", "table")
Chosen = Mapping[tuple[str, str], list[Setting]]
"""The settings chosen, per actor's name and environment's label."""


@dataclass(frozen=True)
class Selection:
    """Hold how settings are chosen: on these seeds, the least energy of those within `within` of the best retention.

    Attributes:
        per: one of all settings ("sweep"), or one of every table [[settings]] ("table").
    """

    seeds: Seeds
    within: float = DEFAULT_WITHIN
    per: str = CHOICES[0]


@dataclass(frozen=True, eq=False)
class Plan:
    """Hold a sweep.

    Attributes:
        text: of the file.
        actors: with their environments and the settings that they are converted with.
        seeds: ranges that are reported on.
        selection: how settings are chosen; None: all are reported.
        left_out: what the file asks for and no cell stands for, one sentence each.
    """

    name: str
    text: str
    actors: tuple[PlannedActor, ...]
    seeds: tuple[Seeds, ...]
    protocol: Protocol
    selection: Selection | None
    left_out: tuple[str, ...] = ()

    def selecting(self) -> Iterator[Cell]:
        """Yield the cells that settings are chosen by, in the order of the grid; none without a selection."""
        if self.selection is not None:
            yield from self._grid((self.selection.seeds,), "select", None)

    def reporting(self, chosen: Chosen | None = None) -> Iterator[Cell]:
        """Yield the cells that are reported: of every setting, or of those chosen."""
        yield from self._grid(self.seeds, "report", chosen)

    def _grid(self, ranges: Sequence[Seeds], purpose: Purpose, chosen: Chosen | None) -> Iterator[Cell]:
        for actor in self.actors:
            for place in actor.places:
                picked = chosen and chosen[actor.name, place.label]
                for setting, engine in ((None, None), *actor.settings):
                    if setting is None or picked is None or setting in picked:
                        for seeds in ranges:
                            yield Cell(actor, setting, engine, place, seeds, purpose, self.protocol)


def read_plan(file: Path, select: Seeds | None = None) -> Plan:
    """Read a sweep's file.

    Args:
        select: choose settings on these seeds, instead of what the file says of it.

    Raises:
        ValueError: one line that names the file, the key and the remedy.
    """
    text, values = read_toml(file)
    table = Table(values, file)
    name = table.text("name", "expected a name", file.stem)
    if not NAME.fullmatch(name):
        table.fail("name", "expected up to 100 letters, digits, dots, dashes or underscores")
    episodes = table.whole("episodes", 2, MOST_EPISODES, DEFAULT_EPISODES)
    firsts = table.wholes("seeds", 0, HIGHEST_SEED - episodes, [DEFAULT_SEED])
    batch = table.whole("batch", 1, 1000, DEFAULT_BATCH)
    protocol = Protocol(batch, *_recording(table.table("recording")))
    skip = table.flag("skip_unsupported", False)
    selection = _selection(table.table("select"), select)
    places = [read_place(given, table, "environments") for given in
              table.take("environments", lambda value: isinstance(value, list) and value != [],
                         'expected a list of ids such as ["Hopper-v5"]', ())]  # fmt: skip
    parts = table.tables("settings", 'what to convert to, as in neuron = "sigma-delta"', [])
    settings = [one for number, part in enumerate(parts, 1) for one in read_settings(part, number)]
    entries = table.tables("actors", 'source = "model.zip", or a shipped policy\'s name')
    table.end()
    seeds = tuple(Seeds(first, episodes) for first in firsts)
    _check_seeds(table, seeds, selection, settings)
    _check_distinct(table, "environments", [place.label for place in places])
    _check_distinct(table, "settings", [hash_of(_content(one)) for one in settings], [one.label for one in settings])
    if selection is not None and not settings:
        table.fail("settings", "[select] has nothing to choose from; add [[settings]]")
    left_out: list[str] = []
    actors = tuple(_actor(entry, places, settings, skip, left_out) for entry in entries)
    _check_no_actor_counts_twice(table, actors)
    _check_distinct(table, "actors", [actor.name for actor in actors])
    return Plan(name, text, actors, seeds, protocol, selection, tuple(left_out))


def _content(setting: Setting) -> dict[str, Any]:
    return {"neuron": setting.record, "compression": setting.compression_record, "engine": setting.engine}


def _recording(table: Table | None) -> tuple[int, int]:
    if table is None:
        return DEFAULT_STEPS, 0
    steps, seed = table.whole("steps", 2, 10**8, DEFAULT_STEPS), table.whole("seed", 0, HIGHEST_SEED - 10**8, 0)
    table.end()
    return steps, seed


def _selection(table: Table | None, given: Seeds | None) -> Selection | None:
    """Return what the table says; its seeds may be given instead."""
    if table is None:
        return None if given is None else Selection(given)
    expected = "expected [first, count], such as [2000, 20]"
    pair = table.take("seeds", _is_range, expected, None if given else ...)
    if pair is ...:
        table.fail("seeds", expected)

    def is_share(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= number("within", value) <= 1

    within = table.take("within", is_share, "expected a share of the return, 0 to 1", DEFAULT_WITHIN)
    expected = f"expected one of {', '.join(CHOICES)}"
    per = table.take("per", lambda value: value in CHOICES, expected, CHOICES[0])
    table.end()
    return Selection(given or as_range(pair), float(within), per)


def as_range(pair: Sequence[int]) -> Seeds:
    """Return the seeds [first, count].

    Raises:
        ValueError: other numbers of numbers, or out of range.
    """
    if not _is_range(pair):
        raise ValueError(f"{pair!r}: expected [first, count], of at least 2 episodes")
    return Seeds(*pair)


def _is_range(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    first, count = value
    return whole(count, 2, MOST_EPISODES) and whole(first, 0, HIGHEST_SEED - count)


def _check_seeds(
    table: Table, seeds: Sequence[Seeds], selection: Selection | None, settings: Sequence[Setting]
) -> None:
    """Refuse episodes that would count twice, and choices that are reported on what they were made by."""
    for one, other in pairwise(sorted(seeds, key=lambda range_: range_.first)):
        if one.meets(other):
            table.fail("seeds", f"the ranges {one} and {other} overlap, and episodes would count twice; move one")
    for reported in seeds:
        if selection is not None and selection.seeds.meets(reported):
            remedy = "choose other seeds for one of the two"
            message = f"settings would be chosen on episodes that they are reported on ({reported}); {remedy}"
            raise ValueError(table.told(f"[select] seeds {selection.seeds}: {message}"))
        pilot = Seeds(Pilot().seed, Pilot().most)
        if any(asked_of_pilots(setting.neuron) for setting in settings) and pilot.meets(reported):
            table.fail("seeds", f"{reported} meets the episodes that pilots choose by, {pilot}; take others")


def _check_distinct(table: Table, key: str, names: Sequence[str], shown: Sequence[str] | None = None) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            twice = (shown or names)[index]
            remedy = "give one of them another name = …" if key == "actors" else "leave one of them out"
            raise ValueError(table.told(f"{key}: {twice} stands there twice; {remedy}"))


def _check_no_actor_counts_twice(table: Table, actors: Sequence[PlannedActor]) -> None:
    """Refuse one actor twice in one environment, by whatever names: statistics over actors would count it twice."""
    known = dict[tuple[str, str], str]()
    for actor in actors:
        for place in actor.places:
            other = known.get((actor.digest, place.label))
            if other is not None:
                twice = f"{other} and {actor.name} are the same actor in {place.label}, and would count as two"
                raise ValueError(table.told(f"actors: {twice}; leave one of them out"))
            known[actor.digest, place.label] = actor.name


def _actor(
    table: Table, places: Sequence[Place], settings: Sequence[Setting], skip: bool, left_out: list[str]
) -> PlannedActor:
    """Read an actor, and check all that it is to do; `left_out` gets a sentence of every setting that does not fit."""
    actor = _load(table)
    own = _own_places(table)
    name = table.text("name", "expected a name", actor.name)
    if not shows(name):
        table.fail("name", f"expected 1 to {LONGEST_TEXT} printable characters")
    table.end()
    chosen = own or places or ([Place(actor.env_id)] if actor.env_id else [])
    if not chosen:
        remedy = 'give environment = "ID" here, or environments for all'
        raise ValueError(table.told(f"{name}: the actor does not say what environment it was trained in; {remedy}"))
    actor = replace(actor, name=name)
    fitting = []
    try:
        for place in chosen:
            place.check(actor)
        for setting in settings:
            try:
                setting.check(actor, chosen[0].source)
                fitting.append((setting, setting.engine_for(actor)))
            except UnsupportedLayerError as error:
                if not skip:
                    remedy = "leave it out, or set skip_unsupported = true"
                    raise ValueError(f"{setting.label}: {error} For a sweep: {remedy}") from None
                left_out.append(f"{name}: {setting.label} is left out: {error.reason}")
    except (ValueError, ImportError) as error:
        if isinstance(error, ImportError):
            raise
        raise ValueError(table.told(f"{name}: {error}")) from None
    content = actor_bytes(actor)
    return PlannedActor(name, content, digest(content), actor.dense_macs, tuple(chosen), tuple(fitting))


def _own_places(table: Table) -> list[Place]:
    if "environment" in table and "environments" in table:
        table.fail("environments", "environment and environments exclude each other; give one")
    given = table.take("environments", lambda value: isinstance(value, list) and value != [],
                       'expected a list of ids such as ["Hopper-v5"]', [])  # fmt: skip
    single = table.take("environment", lambda value: True, "", None)
    return [read_place(one, table, "environment") for one in ([single] if single is not None else given)]


def _load(table: Table) -> Actor:
    from snn_policy.exported import names
    from snn_policy.exported import path as shipped
    from snn_policy.sources import load_actor

    source = table.text("source", "expected a path, or a shipped policy's name (snn-policy list)")
    options = {key: table.take(key, lambda value: True, "") for key in SOURCE_OPTIONS if key in table}
    if isinstance(options.get("vecnormalize"), str):
        options["vecnormalize"] = _path(table, "vecnormalize", options["vecnormalize"])
    try:
        if source in names() and not (table.folder / source).exists():
            return load_actor(shipped(source), **options)
        return load_actor(_path(table, "source", source), **options)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(table.told(f"source = {source!r}: {error}")) from None


def _path(table: Table, key: str, given: str) -> Path:
    """Return a path from the file's folder on, $VARIABLES filled in."""
    path = os.path.expandvars(os.path.expanduser(given))
    unknown = re.search(r"\$\{?(\w+)", path)
    if unknown:
        table.fail(key, f"the environment variable {unknown[1]} is not set; set it, or give the path itself")
    return table.folder / path
