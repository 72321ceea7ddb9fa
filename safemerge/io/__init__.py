"""Checkpoints in and out: reader, writer, sidecars and model card. README.md gives the reasons."""

from safemerge.io.adapter import Adapter as Adapter
from safemerge.io.adapter import open_source as open_source
from safemerge.io.card import CardRecord as CardRecord
from safemerge.io.card import ScoreRow as ScoreRow
from safemerge.io.card import SourceRecord as SourceRecord
from safemerge.io.card import write_card as write_card
from safemerge.io.compat import beyond_range as beyond_range
from safemerge.io.compat import check_finite as check_finite
from safemerge.io.compat import is_finite as is_finite
from safemerge.io.header import TensorInfo as TensorInfo
from safemerge.io.header import TensorSpec as TensorSpec
from safemerge.io.hub import is_hub_id as is_hub_id
from safemerge.io.hub import local_folder as local_folder
from safemerge.io.importance_file import open_importance as open_importance
from safemerge.io.importance_file import save_importance as save_importance
from safemerge.io.partial import check_output as check_output
from safemerge.io.partial import free_bytes as free_bytes
from safemerge.io.reader import Checkpoint as Checkpoint
from safemerge.io.reader import open_checkpoint as open_checkpoint
from safemerge.io.reader import wrapped_names as wrapped_names
from safemerge.io.sidecars import copy_sidecars as copy_sidecars
from safemerge.io.tokens import check_tokenizers as check_tokenizers
from safemerge.io.vocabulary import TokenMap as TokenMap
from safemerge.io.vocabulary import token_map as token_map
from safemerge.io.writer import CheckpointWriter as CheckpointWriter
