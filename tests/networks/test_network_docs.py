"""docs/NETWORKS.md names every method and format, and its numbers come from its command."""

from pathlib import Path

from perturbcast.networks.export import ENDINGS
from perturbcast.networks.methods import all_methods
from perturbcast.networks.network import EDGE_TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "NETWORKS.md"


def test_the_page_names_every_method_format_and_column():
    text, _, measured = PAGE.read_text(encoding="utf-8").partition("<!-- measured -->")
    for name in all_methods():
        assert f"| `{name}` |" in text, name
        assert f"| {name} |" in measured, name
    assert all(ending in text for ending in ENDINGS)
    columns = next(line for line in text.splitlines() if line.startswith("network.edges()"))
    assert all(name in columns for name in EDGE_TABLE)
