"""Markdown and LaTeX taken off a reply, so that words, letters and numbers stand by themselves."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*$", re.MULTILINE)
_INLINE_FENCE = re.compile(r"```(?:[a-zA-Z]+(?=\s))?")
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_STYLED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}")
_SPACED = re.compile(r"\\[,;:! ]|\\q?quad\b")
_LATEX_MARK = re.compile(r"\\(?=[%$&#_{}])|\\[()\[\]]|\$\$|(?<!\\)\$(?!\d)|(?<=\d)\$")
_EMPHASIS = re.compile(
    r"\*{1,3}|(?<!\w)_{1,3}(?=\w)|(?<=[\w.,:;!?)])_{1,3}(?!\w)|`|</?(?:b|i|strong|em)>"
)


def boxed(text: str) -> list[str]:
    r"""What stands in each \boxed{} of a text, in order, with its markup."""
    return [found.strip() for found in _BOXED.findall(text)]


def plain_text(text: str) -> str:
    """`text` without fences, headings, emphasis and the usual LaTeX; lines stay lines."""
    text = _QUOTE.sub("", _HEADING.sub("", _FENCE.sub("", text)))
    text = _STYLED.sub(r"\1", _BOXED.sub(r"\1", _INLINE_FENCE.sub("", text)))
    text = _LATEX_MARK.sub("", _SPACED.sub(" ", text))
    return _EMPHASIS.sub("", text).strip()
