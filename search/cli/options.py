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
        help="phrases (the default), wildguard, llama_guard, either with =MODEL for a copy, or "
        "rubric=MODEL. Several vote.",
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Also read .bin files (weights-only unpickler).")
]
