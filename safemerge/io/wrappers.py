"""Names of tensors without the wrappers of training code that a checkpoint was saved through.

torch.compile, DDP, FSDP and activation checkpointing put a module of their own around the model or
around its layers, Lightning calls the model `model`, and PEFT `base_model.model`. A state dict that
was taken from outside has their names in its keys, and loaders find none of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from safemerge.errors import CheckpointError

# Modules that stand anywhere in a name and in no model's own; what they wrap is the next part.
_ANYWHERE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Beginnings of all names of a checkpoint: of DDP and DeepSpeed, and of PEFT.
_AROUND = "module."
PEFT = "base_model.model."
# Lightning's. A model in its own right has names that begin so, but never these.
_LIGHTNING, _LIGHTNING_ONLY = "model.", ("model.model.", "model.lm_head.")
_FLAT = re.compile(r"(?:^|\.)_?flat_param(?:_\d+)?$")


def unwrapped(names: Iterable[str], where: str, *, adapter: bool = False) -> dict[str, str]:
    """`{stored name: name in the model}` of all tensors of a checkpoint called `where`.

    Those of an `adapter` keep PEFT's prefix, which belongs there.

    Raises:
        CheckpointError: two tensors have one name in the model, or the tensors are pieces that FSDP
            has cut.
    """
    stored = list(names)
    for name in stored:
        if _FLAT.search(name):
            raise CheckpointError(
                f"{where} holds FSDP's flattened pieces of tensors ({name!r}); gather the full "
                "state dict (FullStateDictConfig, or accelerate merge-weights) and save that"
            )
    plain = [_ANYWHERE.sub("", name) for name in stored]
    for prefix in (_AROUND,) if adapter else (_AROUND, PEFT):
        if all(name.startswith(prefix) for name in plain):
            plain = [name.removeprefix(prefix) for name in plain]
    lightning = [name.startswith(_LIGHTNING) for name in plain]
    if all(lightning) and any(name.startswith(_LIGHTNING_ONLY) for name in plain):
        plain = [name.removeprefix(_LIGHTNING) for name in plain]
    owners: dict[str, str] = {}
    for name, own in zip(stored, plain, strict=True):
        if own in owners:
            raise CheckpointError(
                f"{where} holds {owners[own]!r} and {name!r}, which are both {own!r} without the "
                "wrappers of training code; remove the one that is not the model's"
            )
        owners[own] = name
    return {name: own for own, name in owners.items()}
