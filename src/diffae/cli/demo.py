"""`diffae demo`: what a trained model does with drawn faces, and a short training, as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Show what a trained model does, and train a small one, as one HTML page.

    The images are faces drawn by a program.
    """

    out: Path
    """Folder for report.html, the faces and the run."""

    def run(self) -> int:
        """Write the page; 130 or 143 when its training is interrupted."""
        from diffae.cli.demo_page import write_page

        return write_page(self.out)
