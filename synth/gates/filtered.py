"""What goes through a gate and what comes out: prompts kept, and prompts dropped for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Prompted(Protocol):
    """A question, a `Probe` or without an answer yet, and the facts, acts or names it turns on."""

    @property
    def prompt(self) -> str: ...

    @property
    def terms(self) -> tuple[str, ...]: ...


Item = TypeVar("Item", bound=Prompted)
Label = TypeVar("Label", bound=str)


@dataclass(frozen=True, slots=True)
class Dropped(Generic[Item]):
    """One item that was dropped, with a short reason such as "duplicate"."""

    item: Item
    reason: str


@dataclass(frozen=True, slots=True)
class Filtered(Generic[Item]):
    """What a filter leaves and what it takes out."""

    kept: tuple[Item, ...]
    dropped: tuple[Dropped[Item], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped items by reason, most frequent first."""
        return dict(Counter(dropped.reason for dropped in self.dropped).most_common())


def part(items: Sequence[Item], reasons: Sequence[str | None]) -> Filtered[Item]:
    """Part items by their reasons: None keeps the item of that place."""
    pairs = list(zip(items, reasons, strict=True))
    return Filtered(
        kept=tuple(item for item, reason in pairs if reason is None),
        dropped=tuple(Dropped(item, reason) for item, reason in pairs if reason is not None),
    )


def beyond(labels: Iterable[Label], room: Callable[[Label], int]) -> tuple[bool, ...]:
    """Whether each item, by its label, comes after as many of its label as there is room for."""
    count: Counter[Label] = Counter()
    late = []
    for label in labels:
        count[label] += 1
        late.append(count[label] > room(label))
    return tuple(late)
