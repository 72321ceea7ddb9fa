"""Batches that are halved where a device's memory does not hold them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from safemerge.errors import EngineError

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Halving:
    """Batches of one kind of work, as large as memory has allowed so far."""

    def __init__(self, work: str) -> None:
        """`work` names it in messages, such as "scoring"."""
        self._work = work
        self._most: int | None = None  # padded tokens; None while all batches fit

    def parts(
        self, rows: int, width: int, work: Callable[[slice], _Result]
    ) -> Iterator[tuple[slice, _Result]]:
        """`work` on a batch, in parts that fit into memory, and what it returns of each.

        Args:
            rows: of the batch.
            width: tokens of a row, padding and reply included.
            work: called with the rows of a part; again with fewer where memory ran out.

        Raises:
            EngineError: a single row does not fit.
        """
        step = rows if self._most is None else max(1, min(rows, self._most // max(width, 1)))
        start = 0
        while start < rows:
            part = slice(start, min(start + step, rows))
            try:
                result = work(part)
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
                tried = part.stop - part.start
                if tried == 1:
                    raise EngineError(
                        f"{self._work} one row of {width} tokens takes more memory than the "
                        f"device has left ({reason}); take a device with more, set engine.memory "
                        'to "host" or "disk", or shorten prompts and replies'
                    ) from error
            else:
                yield part, result
                start = part.stop
                continue
            # Outside of the handler, whose traceback holds the tensors of the failed try.
            step = tried // 2
            self._most = step * width
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning(
                "out of memory when %s %d rows of %d tokens: from now on %d at once (%s)",
                self._work,
                tried,
                width,
                step,
                reason,
            )
