"""python -m synth.real [FOLDER]: make the real ground, or find it made, and say where it is."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from safemerge.cache import cache_folder
from safemerge.errors import SafemergeError
from synth.probes.jsonl import write_jsonl
from synth.progress import shown_progress
from synth.real.ground import PLANS, build_real_ground


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
        with shown_progress() as report:
            ground = build_real_ground(folder, tuning=args.tuning, report=report)
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
