"""A run's held-out table as a picture, light and dark: domain skill against harmlessness.

    pip install -e ".[benchmarks]"
    python benchmarks/front_picture.py runs/demo docs/img/front

writes docs/img/front-light.svg and docs/img/front-dark.svg from RUN/front/heldout.json. Bars are
one standard error. It reads that file alone, so any run will do that `safemerge search` measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

X, Y = "domain", "harmless"
# Kind of model: its name in the legend, marker, and colours on light and on dark ground.
KINDS = {
    "source": ("base and sources", "o", "#57606a", "#9da7b3"),
    "merge": ("merges without a search", "s", "#9a6700", "#d29922"),
    "search": ("searches of the same budget", "^", "#0969da", "#58a6ff"),
    "front": ("this search: its front", "o", "#1a7f37", "#3fb950"),
    "pick": ("this search: its pick", "*", "#1a7f37", "#3fb950"),
}
MERGES = ("uniform", "best_single_weight")
SEARCHES = ("random_search", "search_without_safety")


def models(record: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, kind, scores) of every model of a held-out record, the pick last."""
    rows = []
    for name, scores in record["rows"].items():
        if name != "search":
            kind = "merge" if name in MERGES else "search" if name in SEARCHES else "source"
            rows.append((name.replace("_", " "), kind, scores))
    front = dict(record["front"])
    pick = front.pop(str(record["pick"]))
    return [*rows, *(("", "front", scores) for scores in front.values()), ("pick", "pick", pick)]


def draw(record: dict[str, Any], out: Path, dark: bool) -> None:
    """Write one picture."""
    ink, ground = ("#c9d1d9", "#0d1117") if dark else ("#24292f", "#ffffff")
    style = {
        "svg.hashsalt": "safemerge",
        "font.size": 11,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "figure.facecolor": ground,
        "axes.facecolor": ground,
        "savefig.facecolor": ground,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
        seen: set[str] = set()
        taken: list[tuple[float, float]] = []
        for name, kind, scores in models(record):
            label, marker, light, on_dark = KINDS[kind]
            x, y = (100 * scores[axis]["value"] for axis in (X, Y))
            errors = [100 * scores[axis]["stderr"] for axis in (X, Y)]
            axes.errorbar(
                x,
                y,
                xerr=errors[0],
                yerr=errors[1],
                fmt=marker,
                markersize=15 if kind == "pick" else 7,
                color=on_dark if dark else light,
                label=None if kind in seen else label,
                elinewidth=1,
                alpha=0.5 if kind == "front" else 1.0,
            )
            seen.add(kind)
            if name:
                lines = sum(abs(x - a) < 12 and abs(y - b) < 6 for a, b in taken)
                taken.append((x, y))
                shift = (10, -14 - 14 * lines) if y > 90 else (8, 8 + 14 * lines)
                axes.annotate(name, (x, y), xytext=shift, textcoords="offset points")
        axes.set(xlabel="domain questions answered right, %", xlim=(20, 120), ylim=(0, 108))
        axes.set_xticks(range(20, 101, 20))
        axes.set_ylabel("harmful prompts refused, %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", frameon=False)
        figure.savefig(out, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    """Read the record and write both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder with front/heldout.json")
    parser.add_argument("out", type=Path, help="path of the pictures, without -light.svg")
    args = parser.parse_args()
    record = json.loads((args.run / "front" / "heldout.json").read_text(encoding="utf-8"))
    for name, dark in (("light", False), ("dark", True)):
        draw(record, args.out.with_name(f"{args.out.name}-{name}.svg"), dark)


if __name__ == "__main__":
    main()
