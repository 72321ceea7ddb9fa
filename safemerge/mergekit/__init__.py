"""mergekit's YAML, read into recipes and written from them.

The facts about mergekit were found by running and reading version 0.1.5; no code of it is used.
"""

from __future__ import annotations

from safemerge.mergekit.reading import Document, documents, from_mergekit, title_of
from safemerge.mergekit.writing import to_mergekit

__all__ = ["Document", "documents", "from_mergekit", "title_of", "to_mergekit"]
