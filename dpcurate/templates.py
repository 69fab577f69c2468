"""Engines kept on disk by what they are made of, so that templates are made once for phases and calibration."""

import hashlib
import json
import os
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate import engine as making
from dpcurate.correlate import Frame, ring_weight
from dpcurate.engine import Engine, Scoring, plate_spots, prepare_engine
from dpcurate.errors import InputError
from dpcurate.library import zone_axis_rotations
from dpcurate.polar import PolarTransform
from dpcurate.refine import PICTURE_ANGLES, PICTURE_RADII, LocalGrid, spot_kernels
from dpcurate.schema import PhaseRecord

CODE_VERSION = 1
"""Raise it when the same settings give other templates."""

CACHE_BYTES = 2_000_000_000
"""Of all engines kept together; the ones that were not used for longest go first."""

MEMORY_SHARE = 0.5
"""Of the memory, which templates may take; patterns and their correlations need the rest."""

GRID_EXCESS = 1.4
"""Zone axes over what an even grid of the same spacing would have: cube faces are not even. Measured: 1.2 to 1.35."""

SPOTS_BEYOND = 0.05
"""1/Angstrom beyond the outermost ring whose spots still reach into it."""

TEMPORARY = ".tmp"
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile)


def cached_engine(
    phases: tuple[PhaseRecord, ...],
    *,
    transform: PolarTransform,
    spot_sigma_inv_angstrom: float,
    spacing_deg: float,
    beam_energy_kev: float,
    precession_deg: float,
    scoring: Scoring | None = None,
) -> Engine:
    """The engine of phases, zone axes ``spacing_deg`` apart, from the cache if it is there; see `prepare_engine`.

    Raises InputError, before anything is made, when the templates would not fit into memory.
    """
    scoring, device = scoring or Scoring(), transform.weight.device
    check_fits(phases, spacing_deg=spacing_deg, device=device)
    k = transform.k_inv_angstrom
    path = cache_folder() / (
        _key(phases, k, scoring, spot_sigma_inv_angstrom, spacing_deg, beam_energy_kev, precession_deg) + ".npz"
    )
    kept = _read(path)
    if kept is not None:
        return _assembled(kept, phases, transform=transform, sigma=spot_sigma_inv_angstrom, scoring=scoring)
    engine = prepare_engine(
        list(phases),
        [zone_axis_rotations(phase.proper_rotations(), spacing_deg=spacing_deg) for phase in phases],
        spots=plate_spots(
            beam_energy_kev=beam_energy_kev,
            precession_deg=precession_deg,
            k_max_inv_angstrom=float(k[-1]) + SPOTS_BEYOND,
            thickness_angstrom=scoring.thickness_angstrom,
            device=device,
        ),
        transform=transform,
        spot_sigma_inv_angstrom=spot_sigma_inv_angstrom,
        spacing_deg=spacing_deg,
        scoring=scoring,
    )
    _write(path, _parts(engine))
    return engine


def cache_folder() -> Path:
    """``$DPCURATE_CACHE``, or dpcurate's folder among the user's caches, as the platform has them."""
    if given := os.environ.get("DPCURATE_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "dpcurate" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dpcurate"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpcurate"


def library_bytes(phases: tuple[PhaseRecord, ...], *, spacing_deg: float) -> int:
    """Memory in bytes, about, of the templates of phases and of the scores of the patterns matched at a time."""
    half_sphere = 2 * np.pi * np.degrees(1) ** 2
    axes = sum(GRID_EXCESS * half_sphere / spacing_deg**2 / len(phase.symmetry) for phase in phases)
    nodes = (2 * making.LOCAL_STEPS - 1) ** 2
    local = nodes * making.MOST_SPOTS * 16  # place, radius, angle, amplitude
    coarse = making.COARSE_HARMONICS * 2 * making.N_RADIUS * 4
    scores = making.BATCH["cpu"] * 8 * torch.get_num_threads()
    return int(axes * (local + coarse + scores))


def check_fits(phases: tuple[PhaseRecord, ...], *, spacing_deg: float, device: torch.device) -> None:
    """Refuse a library that would take more than `MEMORY_SHARE` of the memory of the device."""
    needed, there = library_bytes(phases, spacing_deg=spacing_deg), _memory_bytes(device)
    if needed > MEMORY_SHARE * there:
        fits = spacing_deg * np.sqrt(needed / (MEMORY_SHARE * there))
        raise InputError(
            f"templates {spacing_deg:g} degrees apart would take about {needed / 1e9:.1f} GB, and this machine has "
            f"{there / 1e9:.1f} GB of memory. Take --spacing {np.ceil(fits * 10) / 10:g} or more: orientations are "
            "refined between templates anyway."
        )


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def _key(phases: tuple[PhaseRecord, ...], k: torch.Tensor, scoring: Scoring, *numbers: float) -> str:
    """Hash of everything that decides how templates come out."""
    constants = (
        *(making.N_HARMONICS, making.COARSE_HARMONICS, making.COARSE_LOST, making.MAX_EXCITATION_ERROR),
        *(making.LOCAL_STEPS, making.MOST_SPOTS, PICTURE_RADII, PICTURE_ANGLES, SPOTS_BEYOND),
    )
    records = [phase.model_dump(mode="json") for phase in phases]
    content = [CODE_VERSION, records, k.tolist(), asdict(scoring), numbers, constants]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _parts(engine: Engine) -> dict[str, NDArray[Any]]:
    tensors = {
        "basis": engine.basis,
        "templates": engine.templates,
        "place": engine.grid.place,
        "exact": engine.grid.exact,
        "amplitude": engine.grid.amplitude,
    }
    return {
        "rotation": engine.rotation,
        "phase_id": engine.phase_id,
        "local": np.array([engine.grid.step_deg, engine.grid.reach]),
        **{name: tensor.cpu().numpy() for name, tensor in tensors.items()},
    }


def _assembled(
    parts: dict[str, NDArray[Any]],
    phases: tuple[PhaseRecord, ...],
    *,
    transform: PolarTransform,
    sigma: float,
    scoring: Scoring,
) -> Engine:
    k, device = transform.k_inv_angstrom, transform.weight.device
    frame = Frame(k, ring_weight(k, power=scoring.ring_power), sigma, making.N_HARMONICS)
    tensor = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}
    return Engine(
        transform=transform,
        frame=frame,
        kernels=spot_kernels(frame),
        rotation=parts["rotation"],
        phase_id=parts["phase_id"],
        basis=tensor["basis"],
        templates=tensor["templates"],
        grid=LocalGrid(
            place=tensor["place"],
            exact=tensor["exact"],
            amplitude=tensor["amplitude"],
            step_deg=float(parts["local"][0]),
            reach=int(parts["local"][1]),
        ),
        symmetries=tuple(phase.proper_rotations() for phase in phases),
        scoring=scoring,
    )


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays of a kept engine; None where there is none or it is damaged (each array has a checksum)."""
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            parts = {name: file[name] for name in file.files}
        os.utime(path)
    except DAMAGE:
        return None
    return parts


def _write(path: Path, parts: dict[str, Any]) -> None:
    """Keep an engine; where that cannot be done, the next run makes it again."""
    if sum(part.nbytes for part in parts.values()) > CACHE_BYTES:
        return
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=TEMPORARY)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **parts)
        os.replace(temporary, path)
        _bound(path.parent)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _bound(folder: Path) -> None:
    """Remove what was not used for longest until the rest takes no more than `CACHE_BYTES`."""
    found = []
    for file in [*folder.glob("*.npz"), *folder.glob("*" + TEMPORARY)]:
        with suppress(FileNotFoundError):  # another process tidies up too
            found.append((file.stat().st_mtime, file.stat().st_size, file))
    total = 0
    for _, size, file in sorted(found, key=lambda one: one[:2], reverse=True):
        total += size
        if total > CACHE_BYTES:
            file.unlink(missing_ok=True)
