"""YAML text to plain values, with everything refused that a merge file has no use for.

Anchors and aliases are refused (a few lines of them expand to gigabytes), and so are keys given
twice, of which YAML would silently keep the last.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from safemerge.errors import RecipeError

MAX_BYTES = 1_000_000  # a filter for every matrix of an 80-layer model and ten sources is half that
MAX_DEPTH = 20  # the deepest valid file has seven levels
_SCALARS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null"))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, repeated keys, deep nesting and dates."""

    # Dates, `<<` and `=` stay text: a folder may be called 2024-01-31.
    yaml_implicit_resolvers = {  # noqa: RUF012 (the name and type are PyYAML's)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALARS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no types
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refusal(
                "anchors (&) and aliases (*) are not accepted; write the value out", event
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _refusal(f"nested more than {MAX_DEPTH} levels deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refusal("a key must be a word; put it in quotes if it is one", key)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} is given twice; keep one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which puts text in quotes that `_Loader` would take for a number."""


# YAML 1.1 reads 1e-5, without a dot, as text; nobody who writes it means text.
for side in (_Loader, _Dumper):
    side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def parse_yaml(data: bytes, where: str) -> object:
    """Plain values of a file called `where`, which holds one YAML document."""
    documents = parse_documents(data, where)
    if len(documents) > 1:
        raise RecipeError(f"{where} holds {len(documents)} documents; give one")
    return documents[0]


def parse_documents(data: bytes, where: str) -> list[object]:
    """Plain values of each YAML document, at least one, of a file called `where`."""
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"{where} has {len(data)} bytes; a merge file has at most {MAX_BYTES}. "
            "Check that this is the file you meant"
        )
    try:
        documents = list(yaml.load_all(data.decode("utf-8-sig"), Loader=_Loader))
        # `---` at the end of a file begins no document.
        return [document for document in documents if document is not None] or [None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(f"{where}{line}: {problem}") from error
    # Control characters; bytes that are not UTF-8; a number too long for Python.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{where} is not a YAML text: {reason:.200}") from error


def format_yaml(record: dict[str, object]) -> str:
    """YAML in ASCII that `parse_yaml` reads back; keys stay in order."""
    return yaml.dump(record, Dumper=_Dumper, sort_keys=False, default_flow_style=None)


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)
