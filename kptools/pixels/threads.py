"""Threads that decode, and how they end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def decoding_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that decode."""
    with closing_pool(ThreadPoolExecutor(max(1, count))) as pool:
        yield pool


@contextmanager
def closing_pool(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """Threads of which at the end what they have not begun is dropped. After an error, or a signal,
    nobody waits for what they are at: it may be a file system that does not answer."""
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(cancel_futures=True)
