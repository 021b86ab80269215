"""Reads the code blocks of the README and of docs/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
_TITLES = {"py": "python", "bash": "sh", "shell": "sh", "console": "sh"}


@dataclass(frozen=True)
class Block:
    """A code block: fenced, or indented by four spaces, which is taken as shell."""

    page: str
    """Path from the root of the repository."""
    line: int
    """Where its code begins, from 1."""
    language: str
    code: str
    not_run: str
    """Why it is not run, from a comment `<!-- not run: ... -->` above it; else empty."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Of a shell block: its lines, with continued ones joined and comments removed."""
        joined = self.code.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks() -> list[Block]:
    """All blocks of all pages."""
    return [block for page in PAGES for block in _blocks_of(page)]


def _blocks_of(page: Path) -> list[Block]:
    name = page.relative_to(ROOT).as_posix()
    lines = page.read_text(encoding="utf-8").splitlines()
    found, reason, previous, i = [], "", "", 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("```"):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].startswith("```"))
            word = (line[3:].split() or [""])[0]
            found.append(Block(name, i + 2, _TITLES.get(word, word), "\n".join(lines[i + 1 : end]), reason))
            i, reason = end, ""
        elif line.startswith("    ") and not previous.strip():
            end = i
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            code = "\n".join(text[4:] for text in lines[i:end]).rstrip()
            found.append(Block(name, i + 1, "sh", code, reason))
            i, reason = end - 1, ""
        elif line.strip():
            told = _NOT_RUN.fullmatch(line.strip())
            reason = told[1] if told else ""
        previous = lines[i] if i < len(lines) else ""
        i += 1
    return found
