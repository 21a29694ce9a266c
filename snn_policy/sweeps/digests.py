"""What names a cell and seals a file: SHA-256 of plain data as canonical JSON."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(values: Any) -> str:
    """Return JSON that is the same for the same values: sorted, ASCII.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(values, sort_keys=True, allow_nan=False)


def hash_of(values: Any) -> str:
    """Return the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file's values, without the digest itself and without times."""
    return hash_of({name: value for name, value in document.items() if name not in ("sha256", "timing")})
