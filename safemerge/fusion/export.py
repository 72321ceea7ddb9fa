"""Write a mixture, or one expert, as an ordinary checkpoint with all that a model needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safemerge.errors import OutputError
from safemerge.io import CardRecord, Checkpoint, check_output, copy_sidecars, write_card
from safemerge.io.partial import Partial, full_disk, is_full


def export_model(model: Any, base: Checkpoint, out: Path, card: CardRecord) -> None:
    """Write a model; its folder appears whole or not at all.

    Args:
        model: of transformers, in the dtype that is written.
        base: whose tokenizer, chat template and generation settings come along.
        out: folder to create; an empty one may exist.
        card: for its README.md.

    Raises:
        OutputError: the folder is not empty or cannot be written, or the disk is full.
    """
    needed = sum(p.nbytes for p in model.parameters())
    check_output(out, needed)
    partial = Partial.begin(out)
    try:
        model.save_pretrained(partial.folder)
        copy_sidecars(base, partial.folder, but=frozenset({"config.json"}))
        write_card(partial.folder, card)
        partial.commit()
    except BaseException as error:
        partial.discard()
        if isinstance(error, OSError):
            if is_full(error):
                raise full_disk(out, needed) from error
            raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
        raise
