"""What probes are written about: harm categories, domain topics, unknowable topics, templates.

A taxonomy is a TOML file; `seeds/default.toml` is a complete, commented one.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from safemerge.errors import ConfigError, near_names

Name = Annotated[str, Field(min_length=1)]
_FIELD = re.compile(r"\{(\w+)\}")
# The first placeholder of each template is needed, others are allowed.
_FIELDS = {
    "write_domain": ("topic",),
    "write_harmful": ("category", "description"),
    "write_twin": ("question",),
    "write_unknowable": ("topic",),
    "write_false_premise": ("topic",),
    "write_translation": ("question", "language"),
    "write_role_play": ("question",),
    "write_hypothetical": ("question",),
    "write_passage": ("passage",),
    "answer_passage": ("passage", "question"),
    "with_examples": ("examples",),
}


class Templates(BaseModel, frozen=True, extra="forbid"):
    """The messages that ask a model to write a question."""

    write_domain: str  # uses {topic}
    write_harmful: str  # uses {category}, and {description} if wanted
    write_twin: str  # uses {question}, the harmful one
    write_unknowable: str  # uses {topic}
    write_false_premise: str = ""  # uses {topic}, one of the domain; empty writes no such questions
    # all three use {question}, a harmful one, and the first {language}; empty where not wanted
    write_translation: str = ""
    write_role_play: str = ""
    write_hypothetical: str = ""
    # uses {passage}, a piece of a document that the question is about
    write_passage: str = (
        "Write one exam question that the passage below answers. It must have one short, certain "
        "answer, and be clear to a reader who has not seen the passage.\n\n{passage}"
    )
    # uses {passage} and {question}
    answer_passage: str = (
        "{passage}\n\nAnswer from the passage above, as briefly as possible: {question}"
    )
    # uses {examples}; put after write_domain or write_passage where there are any
    with_examples: str = "Questions of the kind that is wanted:\n{examples}"
    as_text: str = ""  # put after every message to a model that replies in free text
    # put after it instead for a model that can be held to a JSON schema, which is then {"topic",
    # "question"}; empty asks such a model for free text too
    as_json: str = ""

    @field_validator(*_FIELDS)
    @classmethod
    def _uses_its_field(cls, text: str, info: ValidationInfo) -> str:
        needed, *_ = allowed = _FIELDS[str(info.field_name)]
        used = set(_FIELD.findall(text))
        if not text and not cls.model_fields[str(info.field_name)].is_required():
            return text
        if needed not in used:
            raise ValueError(f"it must contain {{{needed}}}")
        if unknown := sorted(used - {*allowed}):
            raise ValueError(f"it contains the unknown placeholder {{{unknown[0]}}}")
        return text

    def of(self, form: str) -> str:
        """The template of a form; "" where there is none."""
        return str(getattr(self, f"write_{form}"))


class Taxonomy(BaseModel, frozen=True, extra="forbid"):
    """What to write about."""

    topics: tuple[Name, ...] = Field(min_length=1)  # of the deployment domain, at least one
    # topics on which nobody can know the answer, at least one
    unknowable: tuple[Name, ...] = Field(min_length=1)
    # harm category -> one line that describes it, at least one
    categories: dict[Name, str] = Field(min_length=1)
    templates: Templates  # how to ask for questions
    # into which harmful questions are translated, where that form is wanted
    languages: tuple[Name, ...] = ()


def fill(template: str, **fields: str) -> str:
    """`template` with each {name} replaced; text that is put in is not looked at again."""
    return _FIELD.sub(lambda found: fields.get(found[1], found[0]), template)


def default_taxonomy() -> Taxonomy:
    """The taxonomy of `seeds/default.toml`."""
    text = files("synth").joinpath("seeds", "default.toml").read_text(encoding="utf-8")
    return _taxonomy(text, "seeds/default.toml")


def load_taxonomy(path: str | Path) -> Taxonomy:
    """A taxonomy from a TOML file; a ConfigError where the file or a key is missing or wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the taxonomy {path}: {error}") from error
    return _taxonomy(text, str(path))


def _taxonomy(text: str, where: str) -> Taxonomy:
    try:
        return Taxonomy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the taxonomy {where} is not valid TOML: {error}") from error
    except ValidationError as error:
        # A misspelt key is both unknown and missing; the unknown one tells more.
        found = error.errors(include_url=False)
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        hint = ""
        if first["type"] == "extra_forbidden":
            home = Templates if first["loc"][0] == "templates" else Taxonomy
            hint = f"; {near_names(str(first['loc'][-1]), home.model_fields)}"
        raise ConfigError(f"taxonomy {where}: the key {key!r}: {first['msg']}{hint}") from error
