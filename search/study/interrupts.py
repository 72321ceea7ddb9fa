"""A Ctrl-C at the right moment: uninterrupted holds it back, interruptible never loses it."""

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

    A KeyboardInterrupt within a write of Optuna's journal could leave half of a trial's change.
    """
    before = _handler()
    held: list[tuple[int, FrameType | None]] = []
    try:
        with _handled_by(lambda number, frame: held.append((number, frame))):
            yield
    finally:
        if before is not None and held:
            before(*held[0])


@contextmanager
def interruptible() -> Iterator[None]:
    """End the block with KeyboardInterrupt after a Ctrl-C, whatever a library makes of it.

    Libraries in C replace it: while safetensors reads a file it comes out as a ValueError about
    shapes, and would be taken for a trial that failed.
    """
    before = _handler()
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        if before is not None:
            before(number, frame)

    try:
        with _handled_by(press):
            yield
    finally:
        if pressed:
            raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    before = _handler()
    if before is None:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _handler() -> _Handler | None:
    """What a Ctrl-C calls; None outside of the main thread, or where it is nothing of Python's."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else None
