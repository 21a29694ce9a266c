"""Tables as Markdown and as CSV: the same bytes for the same tables.

Names in them come from files that anyone may have written: Markdown shows them as they are, without markup, and a
spreadsheet takes none of them for a formula.
"""

import csv
import io
import re

from snn_policy.sweeps.table_values import Table, Value

MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$@:-])")
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def markdown(table: Table) -> str:
    """Return the table with its title and its note."""
    header = [escaped(column.heading) for column in table.columns]
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [f"## {escaped(table.title)}", "", "\n\n".join(map(escaped, table.note.splitlines())), ""]
    if table.rows:
        lines += [_line(header), _line(rule), *(_line([_shown(value) for value in row]) for row in table.rows)]
    return "\n".join(lines).rstrip() + "\n"


def comma_separated(table: Table) -> str:
    """Return the table's numbers: a column per field, ten significant figures, nothing where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    writer.writerows([field(number) for value in row for number in value.numbers] for row in table.rows)
    return text.getvalue()


def records(table: Table) -> list[dict[str, float | str | None]]:
    """Return the table's rows by the names of their fields."""
    names = [field for column in table.columns for field in column.fields]
    return [dict(zip(names, (n for value in row for n in value.numbers), strict=True)) for row in table.rows]


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return MARKUP.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(value: Value) -> str:
    """Return an entry; numbers are left as they are, for whoever reads the source."""
    plain = all(number is None or isinstance(number, float | int) for number in value.numbers)
    return value.text.replace("<", "&lt;").replace(">", "&gt;") if plain else escaped(value.text)


def _line(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |"


def field(number: float | str | None) -> str:
    """Return an entry of a CSV file: a number's ten significant figures, a text that no spreadsheet computes."""
    if number is None:
        return ""
    if isinstance(number, str):
        return f"'{number}" if number.lstrip().startswith(FORMULA) else number
    return f"{number:.10g}" if isinstance(number, float) else str(number)
