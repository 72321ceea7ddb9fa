"""From what a user typed, a folder or `org/name[@revision]`, to a local folder.

Only data is fetched: weights, JSON, tokenizer files and chat templates, never Python.
"""

from __future__ import annotations

import re
from pathlib import Path

from safemerge.errors import CheckpointError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt"]
# Sub-folders of weights (original/, onnx/) are the same model a second time.
_UNWANTED = ["*.py", "*.bin", "*/*.safetensors", "*/*.model"]


def is_hub_id(text: str) -> bool:
    """Whether `text` can name a Hub repository, with or without a revision."""
    return _HUB_ID.fullmatch(text) is not None


def local_folder(path_or_hub_id: str | Path, *, allow_pickle: bool = False) -> Path:
    """The folder that holds the checkpoint, downloaded into the Hub's cache if need be.

    A folder wins over a repository of the same name. `allow_pickle` fetches `.bin` files from a
    repository that has no safetensors.
    """
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(
            f"{path} is a file; give the checkpoint folder that holds it and its config.json"
        )
    text = str(path_or_hub_id)
    if isinstance(path_or_hub_id, Path) or not is_hub_id(text):
        raise CheckpointError(
            f"the checkpoint folder {text} does not exist; check the path, "
            "or give a Hub id such as org/name@revision"
        )
    folder = _download(text, _WANTED, _UNWANTED)
    if allow_pickle and not any(folder.glob("*.safetensors")):
        folder = _download(text, ["pytorch_model*.bin", "adapter_model.bin"], ["*/*"])
    return folder


def _download(text: str, wanted: list[str], unwanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = text.partition("@")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=wanted, ignore_patterns=unwanted
        )
    # The transport's errors belong to a package that differs between versions of huggingface_hub
    # (requests, httpx, httpx2), so no narrower class covers a connection that breaks half way.
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{text} is not a folder here, and as a Hub id it could not be downloaded "
            f"({first_line}); check the name and the connection, run `hf auth login` for a gated "
            "model, or download it elsewhere and give the folder"
        ) from error
    return Path(folder)
