"""Questions as JSON: the schema to which a writer's replies are held, and how they are read.

As in Hammoud et al. 2024 (2406.14563, section 4.2 and appendix A.2) one JSON object is written for
each question, of which the question alone is kept.
"""

from __future__ import annotations

from typing import Any

from synth.text.strict_json import object_schema, read_object

_LETTERS = 6  # of a token, at most, on average
FRAME_TOKENS = 64  # for the braces, the keys and the topic


def question_schema(tokens: int) -> dict[str, Any]:
    """A JSON schema: {"topic", "question"}, for questions of about so many tokens at most."""
    return object_schema(
        topic={"type": "string", "maxLength": 100},
        question={"type": "string", "minLength": 1, "maxLength": _LETTERS * tokens},
    )


def read_question(reply: str) -> str:
    """The question in the one object of a reply; "" where there is none."""
    question = (read_object(reply) or {}).get("question")
    return question.strip() if isinstance(question, str) else ""
