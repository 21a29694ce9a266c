"""Name where measurements and documents lie in the repository."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
TRAINED = ROOT / "examples" / "trained"
REFERENCE_ACTORS = Path(os.environ.get("SNN_POLICY_REFERENCE_DIR", ROOT.parent / "shared" / "policies"))
"""The folder of the reference actors: where the variable says, else beside the project."""


def raw_of(documents: Path) -> Path:
    """Return where the raw figures of tables in that directory go: beside them, those of DOCS to RESULTS."""
    return RESULTS if documents.resolve() == DOCS else documents


def pictures_of(measured: Path) -> Path:
    """Return where the pictures of that file of figures go: beside it, those of RESULTS into DOCS."""
    return DOCS if measured.resolve().parent == RESULTS else measured.parent
