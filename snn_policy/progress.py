"""Progress bars on stderr for everything that takes longer than a moment; silent when disabled.

Rich is loaded when the first bar is shown, not with the package.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

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
    """Show a bar for work that is not a plain loop: call what this yields whenever one more item is done.

    Example:
        with counting("episodes", total=20) as advance:
            ...
            advance()
    """
    if not enabled:
        yield lambda: None
        return
    with _bar("MofNCompleteColumn", "TimeRemainingColumn") as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def busy(description: str, enabled: bool = True) -> Iterator[None]:
    """Show a spinner for work that cannot be counted."""
    if not enabled:
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield


@contextmanager
def spending(description: str, used: int, at_most: int | None, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a bar of a budget of which something is used already; call it with what more is used."""
    if not enabled:
        yield lambda _: None
        return
    with _bar("MofNCompleteColumn", "TimeElapsedColumn") as bar:
        task = bar.add_task(description, total=at_most, completed=used)
        yield lambda parts: bar.advance(task, parts)


class Passes:
    """Show a bar for work that goes over the same data until it is good enough; silent without a bar.

    Attributes:
        note: what the next pass is shown with.
    """

    def __init__(self, description: str = "", bar: "Progress | None" = None) -> None:
        self._description, self._bar, self._begun = description, bar, 0
        self.note = ""
        self._task = None if bar is None else bar.add_task(description, total=None)

    def begin(self, total: int) -> None:
        """Begin the next pass, of so many parts."""
        self._begun += 1
        if self._bar is not None and self._task is not None:
            text = f"{self._description}, pass {self._begun}{self.note}"
            self._bar.update(self._task, total=total, completed=0, description=text)

    def advance(self, parts: int = 1) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, parts)


@contextmanager
def repeating(description: str, enabled: bool = True) -> Iterator[Passes]:
    """Show a bar for `Passes`: their number, and how far the present one is."""
    if not enabled:
        yield Passes()
        return
    with _bar("TaskProgressColumn", "TimeElapsedColumn") as bar:
        yield Passes(description, bar)


def _bar(*further: str) -> "Progress":
    """Return a bar on stderr that shows its text and these columns of Rich."""
    from rich import progress
    from rich.console import Console

    columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    columns += [getattr(progress, name)() for name in further]
    return progress.Progress(*columns, console=Console(stderr=True))
