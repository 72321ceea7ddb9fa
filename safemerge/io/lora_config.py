"""adapter_config.json of PEFT's LoRA: which adapters are plain LoRA, their scalings, their base.

Facts of the format are those of PEFT 0.21. Anything that makes an adapter more than scaling * B @ A
is refused, and so is an unknown setting unless it is empty.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemerge.errors import CheckpointError
from safemerge.io.files import inside, read_json
from safemerge.io.hub import is_hub_id
from safemerge.io.reader import Checkpoint, open_checkpoint
from safemerge.io.shards import holds_model

log = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
REMEDY = (
    "merge it into its base with peft (merge_and_unload), save that with save_pretrained, and "
    "give the folder as the source"
)
# What decides the deltas; the content hash covers these and the tensors.
_DECISIVE = frozenset({"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})
# What says nothing about the deltas of a trained adapter. fan_in_fan_out is among them: PEFT lets
# the layer's class decide and rewrites the flag, the last layer winning where a model has both.
_SILENT = frozenset(
    {"auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config"}
    | {"exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern", "loftq_config"}
    | {"layers_to_transform", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"}
    | {"modules_to_save", "peft_version", "qalora_group_size", "revision", "runtime_config"}
    | {"target_modules", "task_type"}
)
# Initialisations that leave the base as it is; others (PiSSA, OLoRA, LoftQ) move a part of it.
_PLAIN_START = (True, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """The settings of a plain LoRA adapter."""

    file: Path  # where they are written
    decisive: Mapping[str, Any]  # those that decide the deltas
    base: str | None  # what the adapter calls its base, if anything
    ties: bool  # whether a change of the embedding is one of the tied head too
    saved: tuple[str, ...]  # modules that were trained whole, by the ends of their names

    def saves(self, module: str) -> bool:
        """Whether a module was trained whole."""
        return any(module == name or module.endswith(f".{name}") for name in self.saved)

    def scaling(self, module: str, rank: int) -> float:
        """The factor on B @ A of a module: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.

        `module` is its name in the model, and `rank` that of its stored factors.
        """
        written = self._number("r", "rank_pattern", module)
        if written != rank:
            raise CheckpointError(
                f"{self.file} gives {module} the rank {written:g}, and its factors have rank "
                f"{rank}; config and weights belong to different adapters, download it again"
            )
        return self.alpha(module) / (math.sqrt(rank) if self.decisive.get("use_rslora") else rank)

    def alpha(self, module: str) -> float:
        """lora_alpha of a module."""
        return self._number("lora_alpha", "alpha_pattern", module)

    def _number(self, key: str, pattern_key: str, module: str) -> float:
        """Of the first pattern that ends the module's name, else the common one."""
        patterns = self.decisive.get(pattern_key) or {}
        value = self.decisive.get(key)
        try:
            for pattern, own in patterns.items():
                if re.fullmatch(rf"(.*\.)?({pattern})", module):
                    value = own
                    break
        except (re.error, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{pattern_key} in {self.file} is {patterns!r:.80}, not a mapping from names of "
                "modules to numbers; correct it"
            ) from error
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise CheckpointError(
                f"{key} of {module} in {self.file} is {value!r}; give a positive number"
            )
        return float(value)

    def check_base(self, base: Checkpoint) -> None:
        """Refuse an adapter that certainly comes from another base.

        Certain are another Hub repository, and a folder that is here and has other content. A name
        that leads nowhere here says nothing; shapes are compared in any case.
        """
        if self.base is None:
            return
        if holds_model(Path(self.base)):
            other = not _same_model(Path(self.base), base)
        else:
            ours, theirs = _repository(base), self.base.partition("@")[0]
            other = ours is not None and is_hub_id(self.base) and ours.lower() != theirs.lower()
            if ours is None and Path(theirs).name.lower() != base.folder.resolve().name.lower():
                log.warning(
                    "%s says that it was trained on %s; whether that is %s cannot be told here, "
                    "only that its shapes fit",
                    self.file.parent,
                    self.base,
                    base.source,
                )
        if other:
            raise CheckpointError(
                f"{self.file.parent} was trained on {self.base}, and the base is {base.source}; a "
                "LoRA delta means nothing on another model. Give that base, or, if both are the "
                f"same model, set base_model_name_or_path to {base.source!r} in {self.file}"
            )


def _repository(base: Checkpoint) -> str | None:
    """The Hub repository of a base: by its id, or by its place in the Hub's cache."""
    if is_hub_id(base.source) and not Path(base.source).exists():
        return base.source.partition("@")[0]
    snapshots = base.folder.resolve().parent
    kind, _, name = snapshots.parent.name.partition("--")
    if snapshots.name == "snapshots" and kind == "models":
        return name.replace("--", "/", 1)
    return None


def _same_model(folder: Path, base: Checkpoint) -> bool:
    if folder.resolve() == base.folder.resolve():
        return True
    try:
        return open_checkpoint(folder).content_hash() == base.content_hash()
    except CheckpointError:  # such as a quantised copy: not these weights
        return False


def read_lora_config(folder: Path) -> LoraConfig:
    """The config of an adapter folder; one that is not plain LoRA is refused."""
    file = inside(folder, CONFIG_FILE)
    config = read_json(file)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{folder} is an adapter of type {config.get('peft_type')!r}, not LORA; {REMEDY}"
        )
    plain = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": _PLAIN_START}
    for key, value in config.items():
        if value and key not in _SILENT | _DECISIVE and value not in plain.get(key, ()):
            raise CheckpointError(
                f"{file} sets {key} to {value!r:.80}, which is more than plain LoRA; {REMEDY}"
            )
    named = config.get("base_model_name_or_path")
    decisive = {key: config[key] for key in sorted(_DECISIVE & config.keys())}
    saved = config.get("modules_to_save")
    return LoraConfig(
        file,
        decisive,
        base=named if isinstance(named, str) and named else None,
        ties=config.get("ensure_weight_tying") is True,
        saved=tuple(map(str, saved)) if isinstance(saved, list) else (),
    )
