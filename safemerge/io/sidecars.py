"""The small files that make weights a usable model: config, tokenizer, chat template.

Known names only. `auto_map` entries are dropped: they tell loaders which Python of the repository
to run, and that Python is not copied.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safemerge.errors import CheckpointError
from safemerge.io.files import inside, read_json
from safemerge.io.reader import Checkpoint

_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
_TEMPLATES = "additional_chat_templates"
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})


def copy_sidecars(
    checkpoint: Checkpoint,
    out_folder: Path,
    *,
    dtype: str | None = None,
    but: frozenset[str] = frozenset(),
) -> list[str]:
    """Copy config, generation settings, tokenizer and chat templates, with `dtype` in config.json.

    Files in `but` are left out. Returns names of the files written, sorted.
    """
    names = [name for name in _FILES if name not in but]
    templates = checkpoint.folder / _TEMPLATES
    if templates.is_dir():
        names += [f"{_TEMPLATES}/{path.name}" for path in templates.glob("*.jinja")]
    written = []
    for name in names:
        source = inside(checkpoint.folder, name)
        if source.exists():
            target = out_folder / name
            target.parent.mkdir(exist_ok=True)
            _copy(source, target, dtype if name == "config.json" else None)
            written.append(name)
    return sorted(written)


def _copy(source: Path, target: Path, dtype: str | None) -> None:
    """Copy one file: verbatim unless it names code to run, or its dtype has to change."""
    if source.suffix == ".json" and source.name not in ("tokenizer.json", "vocab.json"):
        content = read_json(source)
        safe = {key: value for key, value in content.items() if key not in _CODE_KEYS}
        if dtype is not None:
            safe.pop("torch_dtype", None)  # the name before transformers 4.56
            safe["dtype"] = dtype
        if safe != content:
            target.write_text(json.dumps(safe, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            return
    try:
        # Content only: a link becomes a file, and a read-only source gives a writable copy.
        shutil.copyfile(source, target)
    except IsADirectoryError as error:
        raise CheckpointError(f"{source} is a folder, not a file; remove it") from error
