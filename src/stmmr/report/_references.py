"""References of the methods, from ``references.bib``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple


class Work(NamedTuple):
    """A work to cite."""

    bibtex: str
    """Its entry in BibTeX."""
    fields: dict[str, str]

    @property
    def url(self) -> str:
        """Address of the work."""
        return self.fields.get("url") or f"https://doi.org/{self.fields['doi']}"

    @property
    def where(self) -> str:
        """DOI or address, as text."""
        return self.fields.get("url") or f"doi:{self.fields['doi']}"

    def text(self) -> str:
        """Format the work as one line, without its address."""
        authors = self.fields["author"].replace(" and others", " et al.").replace(" and ", ", ")
        venue = self.fields.get("journal") or self.fields["booktitle"]
        return f"{authors} ({self.fields['year']}). {self.fields['title'].strip('{}')}. {venue}."


def _works(text: str) -> dict[str, Work]:
    """Read entries, each with one field per line."""
    entries = {re.match(r"@\w+{(\w+),", entry): entry for entry in text.strip().split("\n\n")}
    return {
        head[1]: Work(entry, dict(re.findall(r"^  (\w+) = {(.*)},$", entry, re.MULTILINE)))
        for head, entry in entries.items()
        if head
    }


WORKS: Final = _works((Path(__file__).parent / "references.bib").read_text(encoding="utf-8"))
