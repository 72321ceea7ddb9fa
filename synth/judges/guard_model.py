"""What a guard's model is: its default, how it is recognised, and what its chat template needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synth.engines.thinking import Thinking


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardModel:
    """A kind of model that judges."""

    kind: str  # its name in a config
    model: str  # hub id of the default model; "" for none
    refusals: bool = True  # tells refusals too, and not only harm
    template: str | None = None  # chat template that the model needs in place of its own
    sign: str = ""  # words that stand in the chat templates of such models and in no other
    names: str = ""  # the beginning of such models' names, small letters and digits only
    settings: Mapping[str, Any] = field(default_factory=dict)  # variables of its own template
    request: Mapping[str, Any] = field(default_factory=dict)  # fields of a server's requests
    thinking: Thinking = "free"  # as its template has it
