"""Swap and fingerprint the weights of a live module: checked first, then copied in place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from safemerge.errors import BadInput, near_names

# Keys of a configuration that change with the place or the software, not with the model.
_INCIDENTAL = frozenset({"_name_or_path", "transformers_version"})


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state`, every parameter and saved buffer by name, into a live module.

    Its tensors keep their dtype, device and address. Where `check_state` refuses, nothing changes.
    """
    targets: dict[str, Tensor] = model.state_dict(keep_vars=True)
    by_address: dict[int, list[str]] = {}
    for name, tensor in targets.items():
        by_address.setdefault(id(tensor), []).append(name)
    groups = [(names, tuple(targets[names[0]].shape)) for names in by_address.values()]
    check_state(state, groups)
    with torch.no_grad():
        for names in by_address.values():
            name = next(name for name in names if name in state)
            targets[name].copy_(state[name])


def check_state(
    state: Mapping[str, Tensor], groups: Sequence[tuple[Sequence[str], tuple[int, ...]]]
) -> None:
    """Refuse weights that are not exactly a model's, given as (names, shape) of each tensor.

    A tied tensor has several names, of which one is enough, and those given must be equal.

    Raises:
        BadInput: for missing, unknown, mis-shaped, empty or contradicting tensors.
    """
    known = {name for names, _ in groups for name in names}
    for name in state:
        if name not in known:
            raise BadInput(f"the model has no tensor {name!r}; {near_names(name, known)}")
    for names, wanted in groups:
        passed = [name for name in names if name in state]
        if not passed:
            raise BadInput(
                f"the weights lack the tensor {names[0]!r}; pass all of the model's tensors, "
                "a part would leave old and new weights mixed"
            )
        for name in passed:
            if tuple(state[name].shape) != wanted:
                raise BadInput(
                    f"the tensor {name!r} has shape {tuple(state[name].shape)}, but the model "
                    f"needs {wanted}; the weights belong to another model"
                )
            if state[name].is_meta:
                raise BadInput(
                    f"the tensor {name!r} lies on the meta device and has no values; load it first"
                )
        if any(not torch.equal(state[passed[0]], state[other]) for other in passed[1:]):
            raise BadInput(
                f"the model ties {' and '.join(passed)}, but their values differ; pass one of them"
            )


def content_digest(config: Mapping[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over a configuration and named tensors (dtype, shape, bytes) in the order given."""
    model = {key: value for key, value in config.items() if key not in _INCIDENTAL}
    digest = hashlib.sha256(json.dumps(model, sort_keys=True, default=str).encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Viewed as bytes because numpy has no bfloat16.
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
