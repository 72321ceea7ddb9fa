"""The model card: what was merged, how, what was measured, how to load it.

Names and notes come from users and models, so every one of them is escaped.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from safemerge.io.hub import is_hub_id
from safemerge.score import Score, Scores


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """An input of the merge; `content` is `Checkpoint.content_hash()`."""

    name: str
    path: str
    content: str


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Scores of one model."""

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class CardRecord:
    """Everything a model card states. `sources` include the base; `notes` are plain text."""

    title: str
    base: str
    sources: tuple[SourceRecord, ...]
    method: str
    recipe_json: str
    rows: tuple[ScoreRow, ...] = ()
    unit: Literal["rate", "likelihood"] = "rate"  # of the rows' scores
    meanings: Mapping[str, str] = field(default_factory=dict)  # `{metric: what it is}`
    notes: tuple[str, ...] = ()


def write_card(out_folder: Path, record: CardRecord) -> Path:
    """Write `README.md` into a checkpoint folder and return its path."""
    path = out_folder / "README.md"
    path.write_text(card_text(record), encoding="utf-8")
    return path


def card_text(record: CardRecord) -> str:
    """The card as Markdown with YAML front matter."""
    parts = [
        _front_matter(record),
        f"# {_plain(record.title)}",
        f"A merge of {len(record.sources)} checkpoints with the method {_plain(record.method)}, "
        "made with safemerge.",
        "## Sources",
        _table(
            ("name", "path", "sha256 of the content"),
            [(source.name, source.path, source.content) for source in record.sources],
        ),
    ]
    if record.rows:
        axes = list(dict.fromkeys(axis for row in record.rows for axis in row.scores))
        rows = [
            (row.name, *(_score(record.unit, axis, row.scores.get(axis)) for axis in axes))
            for row in record.rows
        ]
        title, meaning = _UNITS[record.unit]
        parts += [f"## {title}", _table(("model", *axes), rows), meaning]
        meanings = record.meanings
        defined: list[tuple[str, ...]] = [(m, meanings[m]) for m in axes if m in meanings]
        if defined:
            parts.append(_table(("column", "is"), defined))
    if record.notes:
        parts += ["## Notes", *(_paragraph(note) for note in record.notes)]
    parts += ["## Recipe", _fenced("json", record.recipe_json), "## How to load it", _LOADING]
    return "\n\n".join(parts) + "\n"


_UNITS = {
    "rate": (
        "Measured: rates of replies",
        "Each number is a share of replies in percent, plus or minus its standard error, over n "
        "probes. Of one probe nothing can be told.",
    ),
    "likelihood": (
        "Measured: likelihood of the wanted answers",
        "Each number is a mean likelihood from 0 to 1, plus or minus its standard error, over n "
        "probes. It is no rate of replies; where a number is in percent it is one.",
    ),
}

_RATES = ("degenerate", "general_refusal", "general_degenerate")  # of replies in either table

_LOADING = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")

chat = [{"role": "user", "content": "What can you help me with?"}]
prompt = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
reply = model.generate(**prompt, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(reply[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def _front_matter(record: CardRecord) -> str:
    # The Hub refuses a card whose base_model is a local path, so only Hub ids are listed, and no
    # revision. A licence is not guessed.
    paths = dict.fromkeys([record.base, *(source.path for source in record.sources)])
    ids = [path.partition("@")[0] for path in paths if is_hub_id(path) and not Path(path).exists()]
    lines = ["---", "library_name: transformers"]
    if ids:
        # is_hub_id leaves no character that means anything inside double quotes.
        lines += ["base_model:", *(f'- "{name}"' for name in dict.fromkeys(ids))]
    return "\n".join([*lines, "tags:", "- merge", "- safemerge", "---"])


def _score(unit: str, metric: str, score: Score | None) -> str:
    if score is None:
        return "not measured"
    if metric == "divergence":
        return f"{score.value:.3f} nats ± {score.stderr:.3f}, n = {score.n}"
    is_rate = unit == "rate" or metric in _RATES
    if score.n == 1:
        return (
            f"{100 * score.value:.1f} %, one probe" if is_rate else f"{score.value:.3f}, one probe"
        )
    if is_rate:
        return f"{100 * score.value:.1f} % ± {100 * score.stderr:.1f}, n = {score.n}"
    return f"{score.value:.3f} ± {score.stderr:.3f}, n = {score.n}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell if cell == "---" else _plain(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _plain(text: str) -> str:
    """Text that renders as itself inside a line: no line breaks, no HTML, no Markdown."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    marks = re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", html.escape(one_line, quote=False))
    # Bare addresses become links in GitHub's Markdown.
    return re.sub(r"(?i)(https?|ftp|www)([:.])", r"\1\\\2", marks)


def _paragraph(text: str) -> str:
    """`_plain` text that does not begin a list, a rule or a heading underline either."""
    plain = re.sub(r"^([-+=:])", r"\\\1", _plain(text))
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", plain)


def _fenced(language: str, json_text: str) -> str:
    """Indented JSON in a fence that nothing inside it can close."""
    body = json.dumps(json.loads(json_text), indent=2, sort_keys=True, ensure_ascii=True)
    ticks = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{body}\n{fence}"
