"""Conversations as text, by one chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safemerge.errors import BadInput
from synth.engines.asking import first_line
from synth.engines.named_templates import Format
from synth.engines.thinking import MARKS

MEND = "mend it, or choose another format by template under [models]"


@dataclass(frozen=True, slots=True)
class TemplateWriter:
    """Renders conversations."""

    tokenizer: Any
    form: Format
    variables: Mapping[str, Any]  # of every rendering
    parts: bool = False  # contents are lists of parts, as for models that see images too

    def write(
        self,
        messages: Sequence[Mapping[str, str]],
        variables: Mapping[str, Any],
        *,
        add_prompt: bool = True,
    ) -> str:
        """A conversation as text; a BadInput where the template fails on it."""
        conversation = [
            {**m, "content": [{"type": "text", "text": m["content"]}]} if self.parts else m
            for m in messages
        ]
        try:
            text = self.tokenizer.apply_chat_template(
                conversation,
                chat_template=self.form.text,
                tokenize=False,
                add_generation_prompt=add_prompt,
                **{**variables, **self.variables},
            )
        # A template is a program: what it raises is of any class.
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise BadInput(
                f"the chat template refuses a conversation with the roles {roles} "
                f"({first_line(error)}); {MEND}"
            ) from error
        return str(text)

    def special_tokens(self) -> dict[int, str]:
        """Special tokens by id, those without a role of their own among them."""
        tokens = self.tokenizer.added_tokens_decoder.items()
        return {place: str(token) for place, token in tokens if token.special}

    def control_tokens(self) -> set[str]:
        """Special tokens, and others that the template writes or that mark thinking."""
        added = (str(token) for token in self.tokenizer.added_tokens_decoder.values())
        text = self.form.text
        written = {
            token for token in added if token in MARKS or (token in text and _is_mark(token))
        }
        return {*self.tokenizer.all_special_tokens, *self.special_tokens().values(), *written}


def _is_mark(token: str) -> bool:
    """Neither a word nor white space, which texts may hold as they please."""
    return bool(token.strip()) and not token.strip().isalnum()
