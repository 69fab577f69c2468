"""An index as a file of another program: .ctf, .ang, or orix's .h5."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dpcurate.ang import write_ang
from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.ctf import write_ctf
from dpcurate.errors import InputError

PARTIAL = ".partial-write"
"""Ends the name under which a file is written before it is renamed."""


def _copy_h5(result: IndexResult, path: Path) -> None:
    """Copy the crystal map that orix wrote into the index."""
    assert result.folder is not None
    shutil.copyfile(result.folder / "crystal_map.h5", path)


WRITERS: dict[str, Callable[[IndexResult, Path], None]] = {"ctf": write_ctf, "ang": write_ang, "h5": _copy_h5}
"""What writes each format."""


def export(index: str | Path, *, file_format: str, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write an index as a file of another program and return its path.

    Parameters
    ----------
    index
        Index folder.
    file_format
        "ctf" (Channel Text File; MTEX, AZtec, ASTAR users), "ang" (EDAX/TSL) or "h5" (orix, with every candidate).
    out
        File to write; default: beside the index, named after it.
    overwrite
        Replace a file that is there.

    Raises
    ------
    InputError
        No index there; an unknown format; a file that exists or cannot be written; a phase that the format cannot hold.
    """
    if file_format not in WRITERS:
        raise InputError(f"format {file_format}: unknown. Choose one of {', '.join(WRITERS)}.")
    folder = Path(index).resolve()
    beside = folder.with_name(f"{folder.name.removesuffix('.index')}.{file_format}")
    path = Path(out) if out is not None else beside
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file with --out.")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already. Give --overwrite to replace it, or another --out.")
    result = read_index(folder)
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[file_format](result, partial)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}). Free space or choose another --out.") from error
    finally:
        _remove(partial)
    return path


def _remove(path: Path) -> None:
    """Remove a file that was not finished, if there is one and the place can be reached."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
