"""Load a causal model and its tokenizer, from folder or hub: safetensors only, no remote code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from safemerge.errors import CheckpointError
from safemerge.io import wrapped_names
from synth.engines.half_precision import half_pays

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off stderr, and put its settings back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_model(path: str | Path, device: str | torch.device, dtype: torch.dtype | None) -> Any:
    """Model of a folder or hub id, as org/name or org/name@revision.

    A dtype that is given is taken instead of the checkpoint's own. Without one, weights in half
    precision become float32, the same numbers, on a processor that is slower in half precision.

    Raises:
        CheckpointError: if the folder is missing, damaged, lacks tensors or has no safetensors.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    name, where = _locate(path)
    renamed = wrapped_names(Path(name)) if Path(name).is_dir() else {}
    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                name,
                **where,
                trust_remote_code=False,
                use_safetensors=True,
                dtype="auto" if dtype is None else dtype,
                key_mapping={f"^{re.escape(key)}$": own for key, own in renamed.items()} or None,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {name!r} cannot be loaded: {_reason(error)}; "
            "check its config.json, tokenizer files and safetensors files"
        ) from error
    # transformers fills a missing tensor with random numbers and only warns.
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the checkpoint {name!r} lacks the tensor {missing[0]!r} and {len(missing) - 1} more; "
            "it is incomplete, or its config.json describes another model"
        )
    if dtype is None and torch.device(device).type == "cpu" and not half_pays(model.dtype):
        model = model.float()
    return model.requires_grad_(False).to(device)


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a checkpoint folder or hub id; a CheckpointError where there is none."""
    from transformers import AutoTokenizer

    name, where = _locate(path)
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the tokenizer of {name!r} cannot be loaded: {_reason(error)}; "
            "check its tokenizer.json and tokenizer_config.json"
        ) from error


def eos_ids(settings: Any) -> frozenset[int]:
    """Ends of turn that a configuration or generation settings name; none where they name none."""
    ids = getattr(settings, "eos_token_id", None)
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _locate(path: str | Path) -> tuple[str, dict[str, str]]:
    if Path(path).is_dir():
        if (Path(path) / "adapter_config.json").exists() and not any(Path(path).glob("model*")):
            raise CheckpointError(
                f"{path} is a LoRA adapter, not a whole model; merge it into its base first "
                "(`safemerge merge` with weight 1)"
            )
        return str(path), {}
    if isinstance(path, Path) or not _HUB_ID.fullmatch(path):
        raise CheckpointError(
            f"there is no checkpoint folder {str(path)!r}; give a folder, or a hub id as org/name"
        )
    name, _, revision = path.partition("@")
    return name, {"revision": revision} if revision else {}
