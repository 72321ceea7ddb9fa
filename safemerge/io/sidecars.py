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
from safemerge.io.merged_vocabulary import MergedTokenizer
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
_TOKENIZER = frozenset(
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    | {"vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja"}
)
_TEMPLATE = "chat_template.jinja"
_TEMPLATES = "additional_chat_templates"
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})


def copy_sidecars(
    checkpoint: Checkpoint,
    out_folder: Path,
    *,
    dtype: str | None = None,
    but: frozenset[str] = frozenset(),
    chat_template: str | None = None,
    tokenizer: MergedTokenizer | None = None,
) -> list[str]:
    """Copy config, generation settings, tokenizer and chat templates.

    Args:
        checkpoint: whose files and whose config are taken.
        out_folder: where they go.
        dtype: written into config.json.
        chat_template: put in the place of the checkpoint's own.
        tokenizer: likewise, with its files.
        but: files that are left out.

    Returns names of the files written, sorted.
    """
    names = [name for name in _FILES if name not in but]
    templates = checkpoint.folder / _TEMPLATES
    if templates.is_dir():
        names += [f"{_TEMPLATES}/{path.name}" for path in templates.glob("*.jinja")]
    replaced = {} if tokenizer is None else dict(tokenizer.replaced)
    written = []
    for name in names:
        own = tokenizer is not None and name in _TOKENIZER
        source = inside(tokenizer.folder if own and tokenizer else checkpoint.folder, name)
        if source.exists() and replaced.get(name, "") is not None:
            target = out_folder / name
            target.parent.mkdir(exist_ok=True)
            if name in replaced:
                target.write_text(str(replaced[name]), encoding="utf-8")
                source = target
            _copy(source, target, _changes(name, checkpoint, dtype, chat_template))
            written.append(name)
    if chat_template is not None:
        (out_folder / _TEMPLATE).write_text(chat_template, encoding="utf-8")
        written = [*{*written, _TEMPLATE}]
    return sorted(written)


def _changes(
    name: str, checkpoint: Checkpoint, dtype: str | None, chat_template: str | None
) -> dict[str, object]:
    """Keys of a file that are to have other values; None for those that are to go."""
    if name == "tokenizer_config.json" and chat_template is not None:
        return {"chat_template": None}
    if name != "config.json":
        return {}
    changes = dict(checkpoint.config)
    if dtype is not None:  # torch_dtype is the name before transformers 4.56
        changes |= {"torch_dtype": None, "dtype": dtype}
    return changes


def _copy(source: Path, target: Path, changes: dict[str, object]) -> None:
    """Copy one file: verbatim unless it names code to run, or keys of it have to change."""
    if source.suffix == ".json" and source.name not in ("tokenizer.json", "vocab.json"):
        content = read_json(source)
        safe = {key: value for key, value in content.items() if key not in _CODE_KEYS}
        for key in changes.keys() - _CODE_KEYS:
            if changes[key] is None and content.get(key) is not None:
                del safe[key]
            elif changes[key] is not None:
                safe[key] = changes[key]
        if safe != content:
            target.write_text(json.dumps(safe, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            return
    if source == target:
        return
    try:
        # Content only: a link becomes a file, and a read-only source gives a writable copy.
        shutil.copyfile(source, target)
    except IsADirectoryError as error:
        raise CheckpointError(f"{source} is a folder, not a file; remove it") from error
