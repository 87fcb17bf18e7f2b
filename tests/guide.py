"""The fenced blocks of a document, so that what people copy from it is what the tests try."""

import re
from dataclasses import dataclass
from pathlib import Path

from template.cloudformation import ROOT

GUIDE = ROOT / "docs" / "producers.md"

_BLOCK = re.compile(
    r"^ *(?:<!-- (?P<role>\w+): (?P<name>\S+) -->\n *)?```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. The comment before it says what it is for: `file: NAME`, `policy: USER` or `run: USER`."""

    role: str | None
    name: str | None
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}, {self.language} of {self.name}"


def blocks(document: Path, role: str | None = None) -> list[Block]:
    """The blocks of a document in their order; of one role, or all."""
    text = document.read_text()
    found = [Block(**it.groupdict(), line=text.count("\n", 0, it.start()) + 1) for it in _BLOCK.finditer(text)]
    return [it for it in found if role in (None, it.role)]
