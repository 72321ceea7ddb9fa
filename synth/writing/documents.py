"""Documents of the user's, cut into passages that fit into a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safemerge.errors import ProbeError

_LEAST = 80  # characters; a heading alone is nothing to ask about


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document."""

    document: str  # file name without its ending
    text: str  # the piece


def read_passages(paths: Sequence[str], *, most_chars: int) -> tuple[Passage, ...]:
    """The passages of some plain text files, in order.

    Paragraphs, parted by blank lines, are joined up to `most_chars`; one that is longer is cut at
    white space. Passages under 80 characters are left out.

    Raises:
        ProbeError: for a file that cannot be read, is not UTF-8, or holds no passage.
    """
    passages: list[Passage] = []
    for path in map(Path, paths):
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ProbeError(f"cannot read the document {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ProbeError(
                f"the document {path} is not UTF-8 text ({error.reason} at byte {error.start}); "
                "convert it to plain text"
            ) from error
        pieces = [piece for piece in pieces_of(text, most_chars) if len(piece) >= _LEAST]
        if not pieces:
            raise ProbeError(
                f"the document {path} holds no passage of {_LEAST} characters; take it out of "
                "domain.documents, or give plain text"
            )
        passages += [Passage(path.stem, piece) for piece in pieces]
    return tuple(passages)


def pieces_of(text: str, most: int) -> Iterator[str]:
    """Pieces of at most so many characters that together hold the whole text."""
    piece = ""
    for paragraph in text.split("\n\n"):
        rest = paragraph.strip()
        if piece and len(piece) + 2 + len(rest) > most:
            yield piece
            piece = ""
        while len(rest) > most:
            cut = rest.rfind(" ", most // 2, most)
            cut = cut if cut > 0 else most
            yield rest[:cut].strip()
            rest = rest[cut:].strip()
        piece = f"{piece}\n\n{rest}".strip()
    if piece:
        yield piece
