"""How torch trains here: on one thread, for every run to be repeatable."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, the only number that is always repeatable, and the faster one for small networks.

    Numbers too small for float32's full precision are taken as zero: they slow Adam down.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
