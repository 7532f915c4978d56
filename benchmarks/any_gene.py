"""20,000 names of every kind asked of a saved model on the command line: each gets a prediction or a coded reason.

Run: OMP_NUM_THREADS=1 python benchmarks/any_gene.py ../shared/data [--models app,grape,spectral-ridge] [--asked 20000]

Names are drawn from the real gene table (symbols, aliases, Ensembl ids with versions, small letters) and made up
(letters, digits, blanks, signs, other scripts, a bell). Models are fitted to the Norman responses with all knowledge of
genes in the folder and STRING, trained for a few steps, saved, and asked with `perturbcast predict --conditions-file`.
The predictions are then checked: a row for every name, finite numbers or a reason with a code, never both.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SHORT = {"app": ["max_steps=20", "folds=2"], "grape": ["max_steps=20", "folds=2"], "spectral-ridge": []}
SCREEN = Path("responses") / "norman2019_k562_crispra.h5ad"
NETWORK = Path("networks") / "string_human.csv"
COLUMNS = ("model", "predicted", "by what is known of them", "at the mean", "refused, by code", "fit s", "predict s")


def names(table: Path, *, n_asked: int) -> list[str]:
    """Names of every kind, one a line of a file."""
    frame = pd.read_parquet(table).sample(frac=1.0, random_state=0)
    rng = np.random.default_rng(0)
    symbols = [str(symbol) for symbol in frame["symbol"].dropna() if symbol]
    aliases = [name for names in frame["synonyms"].dropna() for name in str(names).split("|") if name]
    ids = [f"{ident}.{rng.integers(1, 20)}" for ident in frame["ensembl_gene_id"]]
    letters = list("ACGTXYZ019-. _/\\\"',;:#é中\u0007+")
    nonsense = ["x" + "".join(rng.choice(letters, rng.integers(0, 12))) for _ in range(n_asked // 10)]
    shares = ((symbols, 0.3), (aliases, 0.25), (ids, 0.25), (list(map(str.lower, symbols)), 0.1), (nonsense, 0.1))
    return [name for some, share in shares for name in some[: round(share * n_asked)]]


def answered(file: Path, *, n_asked: int) -> dict:
    """How the names fared; an assertion fails where one has neither answer nor reason, or both."""
    import h5py

    with h5py.File(file) as found:
        support = decoded(found["obs/support"])
        reason = decoded(found["obs/reason"])
        finite = np.concatenate(
            [np.isfinite(found["X"][start : start + 1024]).all(axis=1) for start in range(0, n_asked, 1024)]
        )
    assert len(finite) == n_asked
    assert (finite == (reason == "")).all()
    assert pd.Series(reason[~finite], dtype=str).str.match(r"E\d{3} ").all()
    codes = pd.Series(reason[~finite], dtype=str).str[:4].value_counts()
    informed = np.isin(support, ["seen", "neighbours", "singles", "partial"])
    return {
        "predicted": int(finite.sum()),
        "by what is known of them": int((finite & informed).sum()),
        "at the mean": int((finite & ~informed).sum()),
        "refused, by code": ", ".join(f"{code} {number}" for code, number in codes.items()) or "none",
    }


def decoded(group) -> np.ndarray:
    """A column of obs, which is an array of text or of categories."""
    if hasattr(group, "keys"):
        values, codes = group["categories"].asstr()[:], group["codes"][:]
        return np.asarray(values, dtype=object)[codes]
    return np.asarray(group.asstr()[:], dtype=object)


def timed(*words: str) -> float:
    """Seconds that a command took; it must end well."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "perturbcast.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - started


def measured(model: str, data: Path, out: Path, *, n_asked: int) -> dict:
    """One model: fitted unless it was before, asked, and its answers checked."""
    knowledge = ["--genes", str(data / "genes"), "--networks", str(data / NETWORK)]
    short = [word for field in SHORT.get(model, []) for word in ("--set", field)]
    saved, asked = out / f"{model}-fitted", out / "names.txt"
    seconds = out / f"{model}-fit.json"
    if not saved.is_dir():
        took = timed("fit", str(data / SCREEN), "--model", model, *knowledge, *short, "--out", str(saved))
        seconds.write_text(json.dumps(took))
    lines = names(data / "genes" / "ensembl_genes.parquet", n_asked=n_asked)
    asked.write_text("\n".join(lines), encoding="utf-8")
    answers = out / f"{model}.h5ad"
    table = str(data / "genes" / "ensembl_genes.parquet")
    took = timed("predict", str(saved), "--conditions-file", str(asked), "--genes", table, "--out", str(answers))
    row = {"model": model} | answered(answers, n_asked=len(lines))
    answers.unlink()
    return row | {"fit s": round(json.loads(seconds.read_text())), "predict s": round(took)}


def main() -> None:
    """Prints a Markdown table; what was measured before is read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", default=",".join(SHORT))
    parser.add_argument("--asked", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "any-gene")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for model in given.models.split(","):
        kept = given.out / f"{model}-{given.asked}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(measured(model, given.data, given.out, n_asked=given.asked)))
        row = json.loads(kept.read_text())
        print("| " + " | ".join(str(row[name]) for name in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
