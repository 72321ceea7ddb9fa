"""How far two checkpoints of the same shapes are apart.

    python benchmarks/differing.py FOLDER FOLDER

prints the largest absolute difference of an entry, and the share of entries that differ.
"""

from __future__ import annotations

import json
import sys

from safemerge.io import open_checkpoint


def main() -> None:
    """Compare the two folders that the arguments name."""
    ours, theirs = (open_checkpoint(folder) for folder in sys.argv[1:3])
    largest, differing, total = 0.0, 0, 0
    for name in ours.tensors.keys() - ours.tied:
        gap = (ours.load(name).float() - theirs.load(name).float()).abs()
        largest = max(largest, gap.max().item())
        differing += int(gap.count_nonzero())
        total += gap.numel()
    print(json.dumps({"largest": largest, "share": differing / total}))


if __name__ == "__main__":
    main()
