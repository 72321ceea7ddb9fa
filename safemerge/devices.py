"""Devices: where tensors are held, and which cannot be used."""

from __future__ import annotations

from typing import Literal

from safemerge.errors import ConfigError

Memory = Literal["device", "host", "disk"]
"""Where what every trial reads is held: on the device, in main memory, in files that are mapped."""


def check_device(name: str) -> None:
    """Put one number on the device; a ConfigError says what torch says of it."""
    import torch

    try:
        torch.zeros(1, device=name)
    # AssertionError: built without CUDA; NotImplementedError: a device without kernels.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the device {name!r} cannot be used here ({reason}); 'cpu' always works"
        ) from error
