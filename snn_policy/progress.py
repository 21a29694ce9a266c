"""Progress bars on stderr for everything that takes longer than a moment; silent when disabled."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def track(
    iterable: Iterable[Item], description: str, total: float | None = None, enabled: bool = True
) -> Iterator[Item]:
    """Yield the items, showing how many have passed; `total` where the iterable has no length."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # pyright: ignore[reportArgumentType]
    with counting(description, total, enabled) as advance:
        for item in iterable:
            yield item
            advance()


@contextmanager
def counting(description: str, total: float | None = None, enabled: bool = True) -> Iterator[Callable[[], None]]:
    """A bar for work that is not a plain loop: call what this yields whenever one more item is done.

    Example:
        with counting("episodes", total=20) as advance:
            ...
            advance()
    """
    if not enabled:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
