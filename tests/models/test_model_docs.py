"""docs/MODELS.md is what scripts/model_docs.py makes of the cards."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_page_of_models_is_up_to_date():
    spec = importlib.util.spec_from_file_location("model_docs", ROOT / "scripts" / "model_docs.py")
    docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs)
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run `python scripts/model_docs.py`"
