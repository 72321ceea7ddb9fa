"""Assign splits at random so that whatever is tied together stays together.

What is tied, directly or through others, forms one block; blocks are dealt out whole, separately
for each set of axes, so that every axis gets its share.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence


def assign_splits(
    *,
    ids: Sequence[str],
    strata: Sequence[str],
    ties: Sequence[Iterable[str]],
    shares: Sequence[tuple[str, float]],
    rest: str,
    seed: int,
) -> list[str]:
    """A split name for each item; shares are met up to the size of a block.

    Args:
        ids: stable names of the items; their order does not matter for the outcome.
        strata: the axis of each item.
        ties: labels of each item; items with a common label get the same split.
        shares: (split, share of all items), the shares add up to at most 1.
        rest: split of the items that are left.
        seed: decides the order in which blocks are dealt out.
    """
    blocks = _blocks(ties)
    by_kind: dict[tuple[str, ...], list[list[int]]] = {}
    for block in blocks:
        kind = tuple(sorted({strata[item] for item in block}))
        by_kind.setdefault(kind, []).append(block)
    splits = [rest] * len(ids)
    for kind, members in sorted(by_kind.items()):
        members.sort(key=lambda block: min(ids[item] for item in block))
        random.Random(f"{seed} {kind}").shuffle(members)
        total = sum(len(block) for block in members)
        start = 0
        for name, share in shares:
            count = 0
            # A block goes in while at least half of it fits the share.
            while start < len(members) and count + len(members[start]) / 2 <= share * total:
                for item in members[start]:
                    splits[item] = name
                count += len(members[start])
                start += 1
    return splits


def _blocks(ties: Sequence[Iterable[str]]) -> list[list[int]]:
    """Connected components of items that share labels (union by path halving)."""
    parent = list(range(len(ties)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    owner: dict[str, int] = {}
    for item, labels in enumerate(ties):
        for label in labels:
            parent[root(item)] = root(owner.setdefault(label, item))
    blocks: dict[int, list[int]] = {}
    for item in range(len(ties)):
        blocks.setdefault(root(item), []).append(item)
    return list(blocks.values())
