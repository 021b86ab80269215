"""docs/paper.md names only modules and tests that exist, and covers the whole paper."""

from __future__ import annotations

import re
from pathlib import Path

from diffae.evaluation.tasks import built_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")


def test_every_module_and_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 100
    for path, test in named:
        place = ROOT / "tests" / path if "test_" in path else ROOT / "src" / "diffae" / path
        assert (ROOT / path if path.startswith("tests/") else place).is_file(), path
        assert not test or f"\ndef {test}(" in place.read_text(encoding="utf-8"), f"{path}::{test}"


def section(heading: str) -> list[str]:
    """First cells of the rows below a heading."""
    text = PAGE.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]


def numbers(cells: list[str]) -> set[int]:
    """Numbers in cells such as "4, 14 to 16"."""
    found: set[int] = set()
    for cell in cells:
        for low, high in re.findall(r"(\d+)(?: to (\d+))?", cell):
            found |= set(range(int(low), int(high or low) + 1))
    return found


def test_no_equation_table_figure_appendix_or_claim_is_missing() -> None:
    assert numbers([cell for cell in section("Equations") if not cell.startswith("Section")]) == set(range(1, 12))
    assert numbers(section("Tables")) == set(range(1, 11))
    assert numbers(section("Figures")) == set(range(1, 23))
    letters = "".join(section("Appendices"))
    assert set(re.sub(r"H to J", "HIJ", letters)) & set("ABCDEFGHIJKL") == set("ABCDEFGHIJKL")
    claims = {int(n) for n in re.findall(r"^\| .* \| (\d+) \| `", PAGE, re.MULTILINE)}
    assert claims == {number for task in built_in().values() for number in task.claims}
