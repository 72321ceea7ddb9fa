"""Arguments and options that several verbs of the command share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="TOML file; `safemerge init` writes one.")]
RunArg = Annotated[Path, typer.Argument(help="Run directory, such as runs/demo.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a config key, as in --set search.trials=50. Repeatable."),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="Needed: qwen3guard:strict is a good one, phrases is for smoke tests; others are in "
        "docs/probes.md; =MODEL names a folder, a hub id or a server's url. Several vote.",
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        help="Chat template: one of the model's own by name, or plain, alpaca or chatml.",
    ),
]
ThinkingMode = Annotated[
    str,
    typer.Option(
        "--thinking", help="off, empty (an empty thinking block stands before answers) or free."
    ),
]
ThinkingTokens = Annotated[
    int, typer.Option(min=1, help="Longest thinking in front of a reply; of --thinking free.")
]
JudgeKey = Annotated[
    str | None,
    typer.Option("--judge-key", help="Environment variable with the API key of judges' servers."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Also read .bin files (weights-only unpickler).")
]


def chosen(judges: list[str] | None) -> list[str]:
    """The judges of `--judge`; a BadInput that says which to choose where there is none."""
    from safemerge.errors import BadInput
    from synth.judges import CHOOSE

    if not judges:
        raise BadInput(f"--judge is missing: {CHOOSE}")
    return judges
