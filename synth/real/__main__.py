"""python -m synth.real [FOLDER]: make the real ground, or find it made, and say where it is."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from safemerge.cache import cache_folder
from safemerge.errors import SafemergeError
from synth.probes.jsonl import write_jsonl
from synth.real.ground import PLANS, build_real_ground

_EVERY_S = 30.0  # seconds between two lines about the same step


class _Lines:
    """A line when a step begins, and one now and then while it lasts."""

    def __init__(self) -> None:
        self._what = ""
        self._since = self._said = 0.0

    def __call__(self, what: str, share: float, note: str) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._since = what, now
            left = ""
        elif now - self._said < _EVERY_S or not share:
            return
        else:
            left = f", about {(now - self._since) * (1 - share) / share:.0f} s left"
        self._said = now
        print(f"{what}: {share:.0%}{left}{f', {note}' if note else ''}", flush=True)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m synth.real", description=__doc__)
    default = cache_folder() / "real"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help=f"default: {default}")
    parser.add_argument(
        "--tuning", choices=PLANS, default="lora", help="adapters, or whole checkpoints"
    )
    args = parser.parse_args()
    folder: Path = args.folder
    try:
        ground = build_real_ground(folder, tuning=args.tuning, progress=_Lines())
        listed = folder / "prompts.jsonl"
        write_jsonl(listed, map(asdict, ground.prompts))
    except SafemergeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"base       {ground.base}")
    for name, expert in ground.experts.items():
        print(f"{name:10} {expert}")
    print(f"prompts    {listed}")
    for (kind, split), count in sorted(Counter((p.kind, p.split) for p in ground.prompts).items()):
        print(f"           {kind}, {split}: {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
