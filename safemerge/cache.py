"""The user's cache: dear to compute, cheap to keep. All of it may be deleted any time."""

from __future__ import annotations

import math
import os
from pathlib import Path

from safemerge.errors import ConfigError
from safemerge.store import TensorStore


def cache_folder() -> Path:
    """$SAFEMERGE_CACHE, by default ~/.cache/safemerge; it need not exist."""
    return Path(os.environ.get("SAFEMERGE_CACHE", "~/.cache/safemerge")).expanduser()


def tensor_store() -> TensorStore:
    """The user's cache of factors, of at most $SAFEMERGE_CACHE_GB gigabytes, by default 20."""
    wanted = os.environ.get("SAFEMERGE_CACHE_GB", "20")
    try:
        limit_gb = float(wanted)
    except ValueError:
        limit_gb = math.nan
    if not limit_gb >= 0.0:
        raise ConfigError(
            f"$SAFEMERGE_CACHE_GB is {wanted!r}; give the size limit of the cache of factors in "
            "gigabytes, 0 or more, or unset it for 20"
        )
    return TensorStore(cache_folder() / "factors", limit_gb)
