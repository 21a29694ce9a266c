"""What a sweep's directory holds of another state of the source code than the one that would go on with it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from snn_policy.sweeps.cells import Cell
from snn_policy.sweeps.contents import policy_code
from snn_policy.sweeps.directory import SweepDirectory
from snn_policy.sweeps.files import BATCHES, CELLS, POLICIES
from snn_policy.sweeps.source_code import Code, CodeSeen, is_code, shown


@dataclass(frozen=True)
class OtherCode:
    """Count what was computed with other code, by kind; `first` is one of it, `there` and `here` its code and ours."""

    counts: dict[str, int]
    first: str
    there: Code
    here: Code

    def __str__(self) -> str:
        """Return it in one clause."""
        listed = ", ".join(f"{count:,} of its {kind}" for kind, count in self.counts.items())
        return (
            f"{listed} were computed with other source code than is here now, of the same version "
            f"({self.first}: {shown(self.there)}; here: {shown(self.here)})"
        )


def find_other_code(cells: Iterable[Cell], directory: SweepDirectory, seen: CodeSeen) -> OtherCode | None:
    """Return what of these cells was computed with other code; None where nothing was."""
    counts: dict[str, int] = {}
    example: tuple[str, Code, Code] | None = None
    last = ""
    for cell in cells:
        here = seen.at(cell.place)
        for kind, name, codes in _held(cell, directory):
            other = next((code for code in codes if code != here), None)
            if other is not None and f"{kind}/{name}" != last:  # cells on other seeds share a policy
                last = f"{kind}/{name}"
                counts[kind] = counts.get(kind, 0) + 1
                example = example or (last, other, here)
    return None if example is None else OtherCode(counts, *example)


def _held(cell: Cell, directory: SweepDirectory) -> Iterator[tuple[str, str, list[Code]]]:
    """Yield what is there of a cell: its result, or else its batches and its policy."""
    document = directory.cell(cell.key)
    if document is not None:
        codes = document["evaluation"].get("code")
        yield CELLS, cell.key, _checked(codes) if isinstance(codes, list) and codes else [{}]
        return
    for seeds in cell.batches():
        batch = directory.batch(cell.key, seeds)
        if batch is not None:
            yield BATCHES, f"{cell.key}/{seeds.first}-{seeds.count}", _checked([batch.get("code")])
    files = None if cell.policy_key is None else directory.policy(cell.policy_key)
    if files is not None:
        yield POLICIES, str(cell.policy_key), [policy_code(files)]


def _checked(codes: Iterable[object]) -> list[Code]:
    return [code if is_code(code) else {} for code in codes]
