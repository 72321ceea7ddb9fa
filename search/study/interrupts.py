"""A Ctrl-C at the right moment: uninterrupted holds it back, interruptible lets nobody lose it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold a Ctrl-C back until the block has ended; it is raised then.

    Optuna's journal holds a lock file for the length of a write. A KeyboardInterrupt in there
    leaves the lock behind or turns into an OSError about it.

    Only the main thread gets signals; elsewhere the block runs as it is.
    """
    before = _handler()
    if before is None:
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[0])


@contextmanager
def interruptible() -> Iterator[None]:
    """End the block with KeyboardInterrupt after a Ctrl-C, whatever a library makes of it.

    Libraries in C replace an exception by their own: a Ctrl-C while safetensors reads a file comes
    out as a ValueError about shapes, and would be taken for a trial that failed.

    Only the main thread gets signals; elsewhere the block runs as it is.
    """
    before = _handler()
    if before is None:
        yield
        return
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        before(number, frame)

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


def _handler() -> _Handler | None:
    """What a Ctrl-C calls in this thread; None where it is nothing of Python's."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else None  # ignored, the default, or set by other code
