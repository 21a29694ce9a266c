"""A sweep's report as one page of HTML that needs nothing else: no network, no other file.

Every text comes from files that anyone may have written: all of it is escaped, and the page's content security policy
lets no script and no style run but its own, by their digests.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from typing import Any

from snn_policy.sweeps.cell_record import CellResult
from snn_policy.sweeps.files import SWEEP_FILE
from snn_policy.sweeps.findings import Findings
from snn_policy.sweeps.page_parts import SCRIPT, STYLE
from snn_policy.sweeps.pictures import Picture
from snn_policy.sweeps.result_tables import POLICY, seeds
from snn_policy.sweeps.runs import Run
from snn_policy.sweeps.source_code import shown
from snn_policy.sweeps.table_values import Table, Value

NAMES = len(POLICY)
BREAKS = re.compile(r"[^(,/_ -]{0,19}[(,/_ -]|.{1,20}")
INTERVAL = re.compile(r" (\[[^]]*\])")
MOST_NAMED, MOST_SETTINGS = 20, 4_000
"""Characters of one cell's record that the page repeats; longer ones are in the cell's file."""
PICTURES = {"overview": (), "retention": ("retention",), "equivalence": ("as-good",), "energy": ("energy-",),
            "failures": ("failures",), "profiles": ("profiles",), "time": ("time",)}  # fmt: skip
"""Which pictures stand above a table: beginnings of their names."""


def page(found: Findings, tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """Return the page. Tables come in the order given, each with its pictures; then where all numbers come from."""
    name = escape(found.results.name)
    sections = [_section(table, pictures) for table in tables]
    links = [(table.name, table.title) for table in tables] + [("provenance", "Where the numbers come from")]
    navigation = " ".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title in links)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}: spiking policies beside their ANNs</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{name}: spiking policies beside their ANNs</h1>
{_facts(found)}
{_remarks(found)}
<nav aria-label="Sections">{navigation}</nav>
</header>
<main>
{"".join(sections)}
{_provenance(found)}
</main>
<footer><p>Made by snn-policy report, {escape(version("snn-policy"))}. Energies are counted by operations, not
measured.</p></footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _facts(found: Findings) -> str:
    episodes = sum(run.evaluation.episodes for run in found.runs)
    actors = len({(cell.actor, cell.actor_digest) for run in found.runs for cell in run.cells})
    facts = {
        "cells with results": f"{len(found.results.cells):,} of {len(found.results.keys):,}",
        "actors": f"{actors:,}",
        "environments": f"{len(found.environments):,}",
        "settings": f"{len({run.setting for run in found.runs if run.spiking}):,}",
        "episodes": f"{episodes:,}",
        "δ, the loss allowed": f"{found.delta:g}",
    }
    return _definitions(facts.items(), "facts", wrapped=True)


def _remarks(found: Findings) -> str:
    remarks = [f"{cell}" for cell in found.results.damaged[:MOST_NAMED]] + list(found.remarks)
    if len(found.results.damaged) > MOST_NAMED:
        others = len(found.results.damaged) - MOST_NAMED
        remarks.insert(MOST_NAMED, f"and {others:,} more damaged cells: all in the table of missing cells")
    absent = len(found.results.missing)
    if absent:
        remarks.insert(0, f"{absent:,} of {len(found.results.keys):,} cells are missing: no figure contains them")
    return f'<ul class="remarks">{"".join(f"<li>{escape(one)}</li>" for one in remarks)}</ul>' if remarks else ""


def _section(table: Table, pictures: Sequence[Picture]) -> str:
    beginnings = PICTURES.get(table.name, ())
    shown = [_figure(picture) for picture in pictures if beginnings and picture.name.startswith(beginnings)]
    several = f'<div class="pictures">{"".join(shown)}</div>' if shown else ""
    return (
        f'<section id="{table.name}">\n<h2>{escape(table.title)}</h2>\n{_note(table.note)}\n'
        f"{several}{_table(table)}</section>\n"
    )


def _note(text: str) -> str:
    return "".join(f'<p class="note">{_prose(line)}</p>' for line in text.splitlines())


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    heads = "".join(f'<th scope="col"{_numeric(head.numeric)}>{_prose(head.heading)}</th>' for head in table.columns)
    kind = "sortable runs" if _of_runs(table) else "sortable"
    rows = "\n".join(f"<tr>{_row(table, row)}</tr>" for row in table.rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.title)}"><table class="{kind}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _row(table: Table, row: Sequence[Value]) -> str:
    first, *others = zip(table.columns, row, strict=True)
    entries = "".join(
        f"<td{_numeric(column.numeric)}{_sorted_by(value, column.numeric)}>{_entry(value, column.numeric)}</td>"
        for column, value in others
    )
    also = "".join(f"<small>{_breakable(value.text)}</small>" for value in row[1:NAMES]) if _of_runs(table) else ""
    return f'<th scope="row">{_entry(first[1], False)}{also}</th>{entries}'


def _of_runs(table: Table) -> bool:
    """Return whether its first columns name a run: on narrow screens they are one."""
    return table.columns[:NAMES] == POLICY


def _entry(value: Value, numeric: bool) -> str:
    shown = INTERVAL.sub(r" <span>\1</span>", _prose(value.text)) if numeric else _breakable(value.text)
    return shown if value.anchor is None else f'<a href="#{value.anchor}">{shown}</a>'


def _prose(text: str) -> str:
    """Return an escaped text in which a percent sign stays with its number."""
    return escape(text).replace(" %", "&nbsp;%")


def _breakable(text: str) -> str:
    """Return an escaped name with places where a line may end: at punctuation, and in long words."""
    return "<wbr>".join(escape(part) for part in BREAKS.findall(text))


def _numeric(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _sorted_by(value: Value, numeric: bool) -> str:
    first = value.numbers[0]
    return f' data-v="{first!r}"' if numeric and isinstance(first, float | int) else ""


def _figure(picture: Picture) -> str:
    light, dark = (_data(picture.files[theme, "svg"]) for theme in ("light", "dark"))
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(picture.title)}" loading="lazy"></picture>'
        f"<figcaption>{_prose(picture.caption)}</figcaption></figure>\n"
    )


def _data(content: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def _provenance(found: Findings) -> str:
    """Return what every run depends on, a run at a time, and the sweep's own file."""
    runs = "\n".join(_run(run) for run in found.runs)
    file = f"<details><summary>The sweep's file</summary><pre>{escape(found.results.file)}</pre></details>"
    chosen = found.results.select
    selected = ""
    if chosen is not None:
        told = _shortened(_pretty(chosen), SWEEP_FILE)
        selected = f"<details><summary>What was chosen on other seeds</summary><pre>{escape(told)}</pre></details>"
    return (
        '<section id="provenance">\n<h2>Where the numbers come from</h2>\n<p class="note">A row of a table '
        "links to its run here; rows over all actors are of all runs with their setting. Files are seen from the "
        "sweep's directory; sha256 is a file's digest, times left out.</p>\n"
        f"{runs}\n{selected}{file}\n</section>"
    )


def _run(run: Run) -> str:
    cells = "".join(_cell(cell, ann, len(run.cells) > 1) for cell, ann in zip(run.cells, run.anns, strict=True))
    title = f"{run.actor} · {run.setting} · {run.environment}"
    return f'<details id="{run.anchor}"><summary>{escape(title)}</summary>{cells}</details>'


def _cell(cell: CellResult, ann: CellResult | None, heading: bool) -> str:
    evaluation = cell.evaluation
    baseline = "missing" if ann is None else f"{ann.place}, sha256 {ann.digest}"
    facts = {
        "file": cell.place,
        "sha256": cell.digest,
        "actor": f"{cell.actor}, digest {cell.actor_digest}",
        "environment": f"{cell.environment} {cell.options}",
        "seeds": f"{seeds(evaluation)}, {evaluation.episodes:,} episodes, {evaluation.decisions:,} decisions",
        "versions": ", ".join(f"{name} {value}" for name, value in evaluation.versions.items()),
    }
    if cell.code:
        facts["source code"] = " and ".join(shown(code) for code in cell.code)
    if cell.baseline is not None:
        facts["its ANN"] = baseline
    record = _shortened(_pretty(cell.record), cell.place)
    title = f"<h3>seeds {escape(seeds(evaluation))}</h3>" if heading else ""
    return f"{title}{_definitions(facts.items())}<pre>{escape(record)}</pre>"


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=1)


def _shortened(text: str, place: str) -> str:
    return text if len(text) <= MOST_SETTINGS else f"{text[:MOST_SETTINGS]}…\n(the rest is in {place})"


def _definitions(facts: Iterable[tuple[str, Any]], kind: str = "", wrapped: bool = False) -> str:
    opened, closed = ("<div>", "</div>") if wrapped else ("", "")
    entries = "".join(f"{opened}<dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd>{closed}" for name, fact in facts)
    return f'<dl class="{kind}">{entries}</dl>' if kind else f"<dl>{entries}</dl>"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
