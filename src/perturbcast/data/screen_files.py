"""Screens written as .h5ad that `perturbcast.read` reads again."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast.data.screen import Screen
from perturbcast.errors import MissingFile, OutputExists, UnknownFormat

if TYPE_CHECKING:
    from anndata import AnnData


def screen_to_anndata(screen: Screen) -> "AnnData":
    """AnnData: X as stored (CSR), obs condition, context where there are several, and covariates; uns scale.

    The matrix is brought into memory.
    """
    from anndata import AnnData

    cells = np.arange(screen.n_cells)
    names = [str(cell) for cell in cells] if screen.cells is None else screen.cells.astype(str)
    obs = pd.DataFrame(index=pd.Index(names, dtype=object))
    obs["condition"] = _categories(screen.condition_code, screen.conditions)
    if len(screen.contexts) > 1 or screen.contexts[0]:
        obs["cell_line"] = _categories(screen.context_code, screen.contexts)
    for name in screen.covariates.columns:
        if name not in obs:
            obs[str(name)] = screen.covariates[name].to_numpy()
    var = pd.DataFrame(index=pd.Index(screen.genes.astype(str), dtype=object))
    if screen.gene_ids is not None:
        var["gene_id"] = screen.gene_ids.astype(str)
    return AnnData(X=screen.stored(cells), obs=obs, var=var, uns={"scale": str(screen.scale)})


def _categories(code: np.ndarray, names: tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical(np.array(names, dtype=object)[code], categories=list(names))


def write_screen(screen: Screen, path: str | Path) -> Path:
    """Writes the screen in one atomic step and returns the path.

    Raises UnknownFormat unless it ends in .h5ad, MissingFile without its folder, OutputExists, NotWritable.
    """
    path = Path(path)
    if path.suffix != ".h5ad":
        raise UnknownFormat(f"cannot write a screen as {path.name!r}.", "Use .h5ad.")
    if not path.parent.is_dir():
        raise MissingFile(f"the folder {str(path.parent)!r} for the screen does not exist.")
    if path.exists():
        raise OutputExists(f"{str(path)!r} is there already.")
    with written_whole(path) as draft:
        screen_to_anndata(screen).write_h5ad(draft)
    return path
