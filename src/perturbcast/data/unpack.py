"""The one .h5ad file inside a downloaded zip or tar archive, written under a name of our own choosing."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from perturbcast.errors import UnexpectedContent

HDF5 = b"\x89HDF\r\n\x1a\n"
USUAL_MEMBER = "perturb_processed.h5ad"  # name inside the archives of GEARS


def extract_h5ad(arrived: Path, target: Path) -> None:
    """Moves the .h5ad that `arrived` is or holds to `target`, atomically, and removes `arrived`.

    Archive members are never written under their own names. UnexpectedContent where an archive is damaged, holds
    names that lead out of it, or does not hold exactly one .h5ad (or one called perturb_processed.h5ad).
    """
    try:
        if zipfile.is_zipfile(arrived) and not _is_hdf5(arrived):
            with zipfile.ZipFile(arrived) as archive:
                members = [member.filename for member in archive.infolist() if not member.is_dir()]
                _copy(_chosen(members, arrived), lambda name: archive.open(name), target)
        elif not _is_hdf5(arrived) and tarfile.is_tarfile(arrived):
            with tarfile.open(arrived) as tar:
                files = [member.name for member in tar.getmembers() if member.isfile()]
                _copy(_chosen(files, arrived), lambda name: tar.extractfile(name), target)
        else:
            arrived.replace(target.with_name(target.name + ".tmp"))
        _finish(target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as failure:
        raise UnexpectedContent(f"the archive for {target.name} is damaged: {failure}.") from failure
    finally:
        arrived.unlink(missing_ok=True)
        target.with_name(target.name + ".tmp").unlink(missing_ok=True)


def _chosen(members: list[str], arrived: Path) -> str:
    unsafe = [name for name in members if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if unsafe:
        raise UnexpectedContent(f"the archive {arrived.name} holds a name that leads out of it: {unsafe[0]!r}.")
    inside = [name for name in members if name.endswith(".h5ad")]
    usual = [name for name in inside if PurePosixPath(name).name == USUAL_MEMBER]
    for candidates in (usual, inside):
        if len(candidates) == 1:
            return candidates[0]
    raise UnexpectedContent(f"the archive {arrived.name} holds {len(inside)} .h5ad files where one is expected.")


def _copy(member: str, opened: Callable[[str], IO[bytes] | None], target: Path) -> None:
    source = opened(member)
    assert source is not None, "only regular files are chosen"
    with source, target.with_name(target.name + ".tmp").open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def _finish(target: Path) -> None:
    temporary = target.with_name(target.name + ".tmp")
    if not _is_hdf5(temporary):
        raise UnexpectedContent(f"what came for {target.name} is no HDF5 file.")
    temporary.replace(target)


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HDF5)) == HDF5
