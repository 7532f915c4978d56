"""The figure of the README, from the folder that `make demo` writes: models between floor and ceiling on doubles.

Run: python scripts/readme_figure.py demo
"""

import sys
from pathlib import Path

from perturbcast.report.build import panels_of
from perturbcast.report.figures import floor_to_ceiling
from perturbcast.report.summary import read_tables, sections_of

ROOT = Path(__file__).resolve().parents[1]


def main(folder: Path) -> None:
    """Draws the section of doubles into docs/figures/readme.png."""
    tables = read_tables(folder)
    (section,) = (section for section in sections_of(tables) if section.split == "doubles")
    panels = [panel for panel in panels_of(tables, section) if panel.intervals]
    figure = floor_to_ceiling(panels)
    figure.savefig(ROOT / "docs" / "figures" / "readme.png", dpi=130, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
