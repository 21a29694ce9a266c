"""Try something in a copy of this process, which leaves this one as it was: what no Python object shows stays, too.

The copy is fork(2)'s, made and ended for one call. It does nothing else, so that threads of this process, which it has
not, are not missed. Only Linux is trusted with it: elsewhere system libraries may refuse to work in a forked process.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")


def can_copy_process() -> bool:
    """Return whether `in_a_copy` works on this system."""
    return sys.platform == "linux"


def in_a_copy(call: Callable[[], Result]) -> Result:
    """Return what the call returns in a copy of this process, or raise what it raises there.

    Args:
        call: returns what can be pickled.

    Raises:
        RuntimeError: the copy ended without an answer.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with receiver:
        copy = context.Process(target=_answer, args=(call, sender))
        copy.start()
        sender.close()
        try:
            result, error = receiver.recv()
        except EOFError:
            raise RuntimeError("a copy of this process ended without an answer, perhaps for want of memory") from None
        finally:
            copy.join()
    if error is not None:
        raise error
    return result


def _answer(call: Callable[[], Any], sender: Connection) -> None:
    with suppress(KeyboardInterrupt):  # which this process's owner is told, too
        try:
            answer = call(), None
        except Exception as error:
            answer = None, error
        sender.send(answer)
