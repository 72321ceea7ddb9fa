"""fusion.json: a mixture that is trained and written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Tuned(BaseModel):
    """A mixture that is trained and written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str  # of its checkpoint
    settings: dict[str, Any]  # what decided it
    losses: list[dict[str, float]]  # of every step, with their terms

    @property
    def digest(self) -> str:
        """Twelve hex digits of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
