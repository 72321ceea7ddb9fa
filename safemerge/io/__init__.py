"""Checkpoints in and out: reader, writer, sidecars and model card. README.md gives the reasons."""

from safemerge.io.adapter import Adapter, open_source
from safemerge.io.card import CardRecord, ScoreRow, SourceRecord, write_card
from safemerge.io.compat import check_finite, is_finite
from safemerge.io.header import TensorInfo, TensorSpec
from safemerge.io.hub import local_folder
from safemerge.io.importance_file import open_importance, save_importance
from safemerge.io.partial import check_output, free_bytes
from safemerge.io.reader import Checkpoint, open_checkpoint
from safemerge.io.sidecars import copy_sidecars
from safemerge.io.tokens import check_tokenizers
from safemerge.io.vocabulary import TokenMap, token_map
from safemerge.io.writer import CheckpointWriter

__all__ = [
    "Adapter",
    "CardRecord",
    "Checkpoint",
    "CheckpointWriter",
    "ScoreRow",
    "SourceRecord",
    "TensorInfo",
    "TensorSpec",
    "TokenMap",
    "check_finite",
    "check_output",
    "check_tokenizers",
    "copy_sidecars",
    "free_bytes",
    "is_finite",
    "local_folder",
    "open_checkpoint",
    "open_importance",
    "open_source",
    "save_importance",
    "token_map",
    "write_card",
]
