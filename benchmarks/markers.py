"""Texts in documents that programs rewrite: what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""


def marks(marker: str) -> tuple[str, str]:
    """Return the comments that begin and end a text."""
    return f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"


def between(page: str, marker: str) -> str:
    """Return what stands between the markers; raise `ValueError` where they are not there exactly once."""
    begin, end = marks(marker)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"markers {marker}: expected {begin} and then {end}, once")
    return page.partition(begin)[2].partition(end)[0].strip()


def replaced(page: str, marker: str, text: str) -> str:
    """Return the page with that text between the markers."""
    between(page, marker)
    begin, end = marks(marker)
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"
