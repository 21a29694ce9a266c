"""Name where measurements and documents lie in the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"


def raw_of(documents: Path) -> Path:
    """Return where the raw figures of tables in that directory go: beside them, those of DOCS to RESULTS."""
    return RESULTS if documents.resolve() == DOCS else documents


def pictures_of(measured: Path) -> Path:
    """Return where the pictures of that file of figures go: beside it, those of RESULTS into DOCS."""
    return DOCS if measured.resolve().parent == RESULTS else measured.parent
