"""Work on many items at once, in threads, within a budget of bytes.

Each thread takes a tensor the whole way, so that reading, arithmetic and writing overlap without
queues in between. This file knows nothing of tensors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")

_MOST_AT_ONCE = 4
# Parameters of mallopt(3), as malloc.h numbers them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 512 * 2**20
# Three deltas of 1024 x 2816 are 33 MiB; the heap of a thread has 64.
_LARGEST_KEPT = 48 * 2**20
_LARGEST_OF_GLIBC = 32 * 2**20  # which it comes to by itself, and accepts no more before 2.35


def work_through(
    items: Iterable[Item],
    work: Callable[[Item], None],
    *,
    cost: Callable[[Item], int],
    budget: int,
    done: Callable[[Item], None] | None = None,
) -> None:
    """Call `work` on every item, several at once, begun in the order given.

    Args:
        items: what to work on.
        work: called in a thread.
        cost: bytes that `work` holds while it is at an item.
        budget: most bytes held by all items in progress; one that needs more goes alone.
        done: called in the caller's thread after each item, in the order of completion.

    Raises:
        BaseException: the first error of `work`, or an interrupt, once no thread is at work.
    """
    running: dict[Future[None], Item] = {}
    workers = _workers()
    with _shared_out(), ThreadPoolExecutor(workers) as pool:

        def collect_one() -> None:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                item = running.pop(future)
                future.result()
                if done is not None:
                    done(item)

        for item in items:
            while running and (
                len(running) == workers or sum(map(cost, running.values())) + cost(item) > budget
            ):
                collect_one()
            running[pool.submit(work, item)] = item
        while running:
            collect_one()


def spread(items: Iterable[Item], work: Callable[[Item], None]) -> None:
    """Call `work` on every item, several at once, where nothing waits for a disk or for memory."""
    with _shared_out() as workers:
        pool = ThreadPoolExecutor(workers)
        try:
            for _ in pool.map(work, items):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def most_held(costs: Sequence[int], budget: int) -> int:
    """The most bytes that `work_through` lets items of these costs hold at once."""
    largest = sorted(costs)[-_workers() :]
    return max([min(sum(largest), budget), *largest])


def _at_once() -> int:
    """How many items are computed at once, where torch may use as many threads as it may now.

    Whole tensors in parallel use cores better than threads inside one operation.
    """
    return min(_MOST_AT_ONCE, torch.get_num_threads())


def _workers() -> int:
    """Threads of `work_through`: one more keeps the cores busy while another waits for the disk."""
    return _at_once() + 1


@contextmanager
def _shared_out() -> Iterator[int]:
    """Torch's threads, shared out among the items that are computed at once: how many these are."""
    allowed, at_once = torch.get_num_threads(), _at_once()
    torch.set_num_threads(max(1, allowed // at_once))
    try:
        yield at_once
    finally:
        torch.set_num_threads(allowed)


@contextmanager
def kept_heap() -> Iterator[None]:
    """Let freed blocks of up to 48 MiB serve the next tensors, until this ends.

    glibc gives them back to the system when they are freed, and the next ones come page by page and
    zeroed. The setting is of the whole process; where malloc is not glibc's, nothing is changed.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        yield
        return
    if not mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
        mallopt(_MMAP_THRESHOLD, _LARGEST_OF_GLIBC)
    mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _LARGEST_OF_GLIBC)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_OF_GLIBC)
        trim(0)
