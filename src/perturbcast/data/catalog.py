"""Public perturbation screens by name: where they are, what they hold, and fetching them once, verified.

Addresses: the GEARS-processed files on Harvard Dataverse (Roohani et al. 2024), scPerturb on Zenodo (Peidli et al.
2024) and the authors' pseudobulks of Replogle et al. 2022 on figshare (article 20029387). Checksums are those that the
archives publish; where none is known, the first download is recorded in `registry.json` and later ones compared.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perturbcast._files import written_whole
from perturbcast._progress import Progress
from perturbcast.data.download import ResumableDownload
from perturbcast.data.unpack import extract_h5ad
from perturbcast.errors import BadOption, ChecksumDiffers, NotWritable, UnknownDataset, did_you_mean

DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile/"
ZENODO = "https://zenodo.org/api/records/"
REPLOGLE_PAGE = "https://doi.org/10.25452/figshare.plus.20029387"
REPLOGLE = "doi:10.1016/j.cell.2022.05.013"
GEARS_NOTE = "processed by GEARS: log1p of counts per 10,000, about 5,000 variable genes and the targets"


@dataclass(frozen=True)
class Dataset:
    """A public data set: what it holds and where it is. Numbers that are not known for certain are None."""

    name: str
    title: str
    contents: str
    source: str  # DOI of the paper
    page: str  # where a person finds the file and its terms
    address: str
    cells: int | None = None
    genes: int | None = None
    bytes: int | None = None  # of the file as downloaded
    checksum: str | None = None  # "md5:..." or "sha256:..." of the file as downloaded
    archive: bool = False  # whether the .h5ad comes inside a zip or tar file


def _gears(name: str, title: str, file_id: int, *, paper: str, page: str, **more: Any) -> Dataset:
    return Dataset(name, title, GEARS_NOTE, paper, page, f"{DATAVERSE}{file_id}", archive=True, **more)


def _scperturb(name: str, title: str, file: str, size: int, md5: str, *, cells: int, genes: int | None) -> Dataset:
    return Dataset(
        name,
        title,
        "raw counts of all single cells, as harmonised by scPerturb",
        REPLOGLE,
        "https://zenodo.org/records/13350497",
        f"{ZENODO}13350497/files/{file}/content",
        cells=cells,
        genes=genes,
        bytes=size,
        checksum=f"md5:{md5}",
    )


DATASETS = (
    _gears(
        "norman",
        "Norman 2019, K562, CRISPR activation, singles and doubles",
        6154020,
        paper="doi:10.1126/science.aax4438",
        page="https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc=GSE133344",
        cells=91_205,
        genes=5_045,
    ),
    _gears(
        "adamson",
        "Adamson 2016, K562, CRISPR interference, unfolded protein response",
        6154417,
        paper="doi:10.1016/j.cell.2016.11.048",
        page="https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc=GSE90546",
    ),
    _gears(
        "dixit",
        "Dixit 2016, K562, CRISPR knock-out of transcription factors",
        6154416,
        paper="doi:10.1016/j.cell.2016.11.038",
        page="https://www.ncbi.nlm.nih.gov/geo/query/acc.cgi?acc=GSE90063",
    ),
    _gears(
        "replogle-k562-essential",
        "Replogle 2022, K562, CRISPR interference of essential genes (filtered)",
        7458695,
        paper=REPLOGLE,
        page=REPLOGLE_PAGE,
    ),
    _gears(
        "replogle-rpe1-essential",
        "Replogle 2022, RPE1, CRISPR interference of essential genes (filtered)",
        7458694,
        paper=REPLOGLE,
        page=REPLOGLE_PAGE,
    ),
    _scperturb(
        "replogle-k562-genome-wide",
        "Replogle 2022, K562, CRISPR interference, genome-wide",
        "ReplogleWeissman2022_K562_gwps.h5ad",
        8_805_466_154,
        "13db594f8f1d2ccb88fec44a13e414dc",
        cells=1_989_578,
        genes=8_248,
    ),
    _scperturb(
        "replogle-k562-essential-raw",
        "Replogle 2022, K562, CRISPR interference of essential genes, unfiltered",
        "ReplogleWeissman2022_K562_essential.h5ad",
        1_546_729_675,
        "d8cba17576d1a8afc0f7d71b79cad0f7",
        cells=310_385,
        genes=None,
    ),
    _scperturb(
        "replogle-rpe1-essential-raw",
        "Replogle 2022, RPE1, CRISPR interference of essential genes, unfiltered",
        "ReplogleWeissman2022_rpe1.h5ad",
        1_236_886_900,
        "cc7f1ec50aeb3a3e1b4a6cfa713d80fa",
        cells=247_914,
        genes=8_749,
    ),
    Dataset(
        "replogle-k562-genome-wide-bulk",
        "Replogle 2022, K562, CRISPR interference, genome-wide, one row per guide pair",
        "z-normalised pseudobulks, 11,258 rows: read with --kind response",
        REPLOGLE,
        REPLOGLE_PAGE,
        "https://ndownloader.figshare.com/files/35773217",
        genes=8_248,
        bytes=374_587_922,
        checksum="md5:a3dfaa94ea8724217f5ecb1e14a5f0c8",
    ),
    Dataset(
        "papalexi",
        "Papalexi 2021, THP-1, CRISPR knock-out with ECCITE-seq",
        "raw counts of single cells, as harmonised by scPerturb; labels are guides",
        "doi:10.1038/s41588-021-00778-2",
        "https://zenodo.org/records/7278143",
        "https://zenodo.org/records/7278143/files/PapalexiSatija2021_eccite_RNA.h5ad",
    ),
)


def catalogue() -> list[dict[str, Any]]:
    """One dictionary per public data set, in the order of the documentation; every value can stand in JSON."""
    return [dataclasses.asdict(entry) for entry in DATASETS]


def find_dataset(name: str) -> Dataset:
    """The entry of that name; `_` and capitals do not matter. UnknownDataset offers the nearest."""
    by_name = {entry.name: entry for entry in DATASETS}
    entry = by_name.get(name.strip().casefold().replace("_", "-"))
    if entry is None:
        raise UnknownDataset(f"no public data set is called {name!r}. {did_you_mean(name, by_name)}")
    return entry


def get_dataset(
    name: str,
    *,
    folder: str | Path,
    base_url: str | None = None,
    progress: Progress | None = None,
    retries: int = 4,
    pause: float = 1.0,
) -> Path:
    """Path of `folder/NAME.h5ad`, fetched if it is not there, verified in any case.

    An interrupted download goes on where it stopped. `base_url` replaces scheme and host of the public address (a
    mirror). `retries`: attempts without progress before Offline; `pause`: seconds before the second, doubled after.
    Raises UnknownDataset, Offline, SourceGone, ChecksumDiffers, UnexpectedContent, NotWritable.
    """
    entry = find_dataset(name)
    if retries < 1:
        raise BadOption(f"retries is {retries}; at least 1 attempt is needed.")
    address = entry.address if base_url is None else base_url.rstrip("/") + urlsplit(entry.address).path
    folder = Path(folder)
    target = folder / f"{entry.name}.h5ad"
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            download = ResumableDownload(
                folder / f"{entry.name}.part", entry.page, retries, pause, Progress() if progress is None else progress
            )
            _fetch(entry, address, target, download)
        _verify(entry, target)
    except OSError as failure:
        raise NotWritable(f"{folder} cannot be written: {failure.strerror or failure}.") from failure
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return target


def _fetch(entry: Dataset, address: str, target: Path, download: ResumableDownload) -> None:
    """Downloads, verifies and unpacks; nothing stands under the final name before all three are done."""
    import pooch

    recorded = _registry(target.parent).get(target.name, {})
    expected = entry.checksum or recorded.get("source_checksum")
    arrived = target.with_name(f"{entry.name}.download")
    arrived.unlink(missing_ok=True)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(address, expected, fname=arrived.name, path=str(target.parent), downloader=download)
    except ValueError as failure:
        raise ChecksumDiffers(f"{address} gave a file that does not match {expected}; it was not kept.") from failure
    source_checksum = expected or f"sha256:{_hash(arrived, 'sha256')}"
    extract_h5ad(arrived, target)
    _record(target, address=address, source_checksum=source_checksum)


def _verify(entry: Dataset, target: Path) -> None:
    """Compares a file with its published checksum or the one recorded on first use; records it where there is none."""
    recorded = _registry(target.parent).get(target.name, {}).get("sha256")
    if recorded is None and entry.checksum and not entry.archive:
        algorithm, _, digest = entry.checksum.partition(":")
        if _hash(target, algorithm) != digest:
            raise ChecksumDiffers(f"{target} does not match the published {entry.checksum}.")
    if recorded is None:
        _record(target, address="found in the folder", source_checksum=entry.checksum)
    elif _hash(target, "sha256") != recorded:
        raise ChecksumDiffers(f"{target} is not the file that was recorded in registry.json.")


def _registry(folder: Path) -> dict[str, dict[str, Any]]:
    """What was recorded of the files of a folder; empty where nothing was, or the record is damaged."""
    try:
        registry = json.loads((folder / "registry.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return registry if isinstance(registry, dict) else {}


def _record(target: Path, *, address: str, source_checksum: str | None) -> None:
    """Adds a file to `registry.json`, atomically."""
    registry = _registry(target.parent)
    registry[target.name] = {
        "address": address,
        "bytes": target.stat().st_size,
        "sha256": _hash(target, "sha256"),
        "source_checksum": source_checksum,
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with written_whole(target.with_name("registry.json")) as draft:
        draft.write_text(json.dumps(registry, indent=2, sort_keys=True) + "\n")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Keeps pooch from announcing what our progress bar shows already."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)
