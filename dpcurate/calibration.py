"""Calibration of a scan: metadata, recipe and options in rising order of authority, converted at the door."""

import re
from typing import Any

import numpy as np
import pint
from numpy.typing import NDArray

from dpcurate.bad_patterns import unusable
from dpcurate.errors import InputError
from dpcurate.recipe import ScanRecipe
from dpcurate.reflections import wavelength_angstrom
from dpcurate.schema import Record

MAX_ANGLE_RAD = 0.3
"""No detector of a diffraction scan reaches further; a calibration that says so is wrong (camera length, mostly)."""

ENERGIES_KEV = (10.0, 3000.0)
"""Of electron microscopes. A value outside is in another unit, mostly in eV."""

MAX_PRECESSION_DEG = 10.0
"""No instrument tilts its beam further; the recipe takes no more either."""

KEYS = {
    "beam_energy_kev": "Acquisition_instrument.TEM.beam_energy",
    "rocking_angle_mrad": "Acquisition_instrument.TEM.rocking_angle",
    "camera_length_cm": "Acquisition_instrument.TEM.camera_length",
    "rotation_deg": "Acquisition_instrument.TEM.rotation",
}
"""HyperSpy and pyxem metadata that is read. pyxem stores the precession half-angle as rocking_angle in mrad."""

SAMPLE_BYTES = 2**28
"""Of the patterns that are read to find the direct beam."""

UNITS: pint.UnitRegistry = pint.UnitRegistry()


class Calibration(Record):
    """What turns pixels into 1/Angstrom; ``sources`` says where each value came from."""

    scale_inv_angstrom: float
    center_xy: tuple[float, float]
    beam_energy_kev: float
    precession_deg: float
    step_nm: float
    rotation_deg: float
    flip: bool
    ellipse: tuple[float, float] = (0.0, 0.0)
    """Share by which patterns are stretched along x and as much narrowed along y, and the same along the diagonals."""
    steadied_xy: tuple[float, float] | None = None
    """Where the direct beam of every pattern is moved to when it is read; see `wandering`."""
    sources: dict[str, str]


def calibrate(signal: Any, recipe: ScanRecipe, *, name: str) -> Calibration:
    """Return the calibration of a 4D HyperSpy signal; the direct beam is found when nobody gives it.

    Raises InputError, naming the option, when the scale or the beam energy is nowhere stated, or when they cannot be.
    """
    sources: dict[str, str] = {}

    def pick(key: str, given: Any, found: Any, default: Any = None) -> Any:
        sources[key] = "recipe or option" if given is not None else "metadata" if found is not None else "assumed"
        return given if given is not None else found if found is not None else default

    energy = pick("beam_energy_kev", recipe.beam_energy_kev, _positive(signal, "beam_energy_kev"))
    _check_energy(energy, name=name)
    precession = None if recipe.precession_deg is not None else _precession_deg(signal, name=name)
    scale = pick("scale_inv_angstrom", recipe.scale_inv_angstrom, None)
    if scale is None:
        scale = scale_of_axes(signal, energy, name=name)
        sources["scale_inv_angstrom"] = f"metadata, in {signal.axes_manager.signal_axes[0].units}"
    _check_plausible(signal, scale, energy, name=name)
    flip = recipe.flip
    _check_center(signal, recipe.center_xy, name=name)
    center = recipe.center_xy or _center_of_axes(signal)
    sources["center_xy"] = "recipe or option" if recipe.center_xy else "metadata"
    if center is None:
        center = find_direct_beam(signal, name=name)
        sources["center_xy"] = "found in the patterns"
    if flip:
        center = (center[0], signal.axes_manager.signal_axes[1].size - 1 - center[1])
    return Calibration(
        scale_inv_angstrom=scale,
        center_xy=(float(center[0]), float(center[1])),
        beam_energy_kev=energy,
        precession_deg=pick("precession_deg", recipe.precession_deg, precession, 0.0),
        step_nm=pick("step_nm", recipe.step_nm, _step_nm(signal), 1.0),
        rotation_deg=pick("rotation_deg", recipe.rotation_deg, _number(signal, "rotation_deg"), 0.0),
        flip=flip,
        sources=sources,
    )


def scale_of_axes(signal: Any, beam_energy_kev: float, *, name: str) -> float:
    """Return 1/Angstrom per pixel from the signal axes, whatever the unit they are written in."""
    axes = signal.axes_manager.signal_axes
    scales = [_axis_scale(axis, signal, beam_energy_kev, name=name) for axis in axes]
    if abs(scales[0] - scales[1]) > 0.01 * max(scales):
        raise InputError(
            f"{name}: its detector axes differ in scale ({scales[0]:.5g} and {scales[1]:.5g} 1/Å a pixel). "
            "Square pixels are needed: correct the scan, or give one scale with --scale."
        )
    return float(np.mean(scales))


def unit_of(text: str) -> Any:
    """Return the pint unit of an axis label such as ``1/Å``, ``$A^{-1}$``, ``Å^-1``, ``k_nm^-1`` or ``cm``, or None."""
    plain = re.sub(r"[${}\s\\]", "", text).replace("−", "-").removeprefix("k_")
    plain = re.sub(r"Å|Å|\bA(?=\b|\^|-|$)|Ang(?:strom)?\b", "angstrom", plain)
    plain = plain.replace("⁻¹", "**-1").replace("^", "**").replace("µ", "u")
    plain = re.sub(r"(?<=[a-z])-1$", "**-1", plain)
    if not re.fullmatch(r"(1/)?[A-Za-z]+(\*\*-?1)?", plain):
        return None
    try:
        return UNITS.parse_expression(plain).units
    except (pint.errors.PintError, AttributeError):
        return None


def find_direct_beam(signal: Any, *, name: str = "signal") -> tuple[float, float]:
    """Return the mean direct beam (column, row) in pixels of a signal, from up to 256 of its patterns.

    Large patterns are fewer, so that at most `SAMPLE_BYTES` are read. Bad ones are left out; InputError when there is
    no other.
    """
    rows, columns = signal.data.shape[:2]
    most = np.clip(SAMPLE_BYTES // (signal.data[0, 0].size * signal.data.dtype.itemsize), 16, 256)
    every = max(1, int(np.ceil(np.sqrt(rows * columns / most))))
    return beam_of_mean(_mean_pattern(np.asarray(signal.data[::every, ::every]), name=name))


def beam_of_mean(mean: NDArray[Any]) -> tuple[float, float]:
    """Return the direct beam (column, row) in pixels of a mean pattern ``(h, w)``.

    pyxem's ``blur`` finds the beam, and its ``center_of_mass`` in a window there the fraction of a pixel.
    """
    import hyperspy.api as hs

    mean = np.asarray(mean, np.float32)
    pattern = hs.signals.Signal2D(mean[None, None])
    pattern.set_signal_type("electron_diffraction")
    middle = np.array(mean.shape[::-1]) / 2
    beam = middle - _shift(pattern, method="blur", sigma=2)
    window = max(3, round(0.05 * min(mean.shape)))
    for _ in range(2):
        low = np.clip(np.round(beam).astype(int) - window, 0, None)
        cut = mean[low[1] : low[1] + 2 * window + 1, low[0] : low[0] + 2 * window + 1]
        piece = hs.signals.Signal2D(cut[None, None])
        piece.set_signal_type("electron_diffraction")
        beam = low + np.array(cut.shape[::-1]) / 2 - _shift(piece, method="center_of_mass")
    return float(beam[0]), float(beam[1])


def _mean_pattern(patterns: NDArray[Any], *, name: str) -> NDArray[np.float32]:
    """Return the mean (h, w) of the good ones among patterns (rows, columns, h, w)."""
    total, n = np.zeros(patterns.shape[2:]), 0
    for row in patterns:  # not all at once: float64 copies of 256 large patterns take gigabytes
        good = row[~np.any(list(unusable(row).values()), axis=0)]
        total, n = total + good.sum(axis=0, dtype=np.float64), n + len(good)
    if n == 0:
        raise InputError(
            f"{name}: none of the {patterns[..., 0, 0].size} patterns looked at for the direct beam can be used. "
            "Give the direct beam with --center, or open the scan in HyperSpy to see what it holds."
        )
    return np.asarray(total / n, np.float32)


def _shift(signal: Any, **method: Any) -> NDArray[np.float64]:
    found = signal.get_direct_beam_position(lazy_output=False, **method)
    return np.asarray(found.data, float).reshape(2)


def _axis_scale(axis: Any, signal: Any, beam_energy_kev: float, *, name: str) -> float:
    unit = unit_of(str(axis.units))
    wavelength = wavelength_angstrom(beam_energy_kev)
    if unit is not None:
        step = axis.scale * unit
        if step.check("1/[length]"):
            return abs(float(step.to("1/angstrom").magnitude))
        if unit.dimensionless and str(unit) in ("radian", "milliradian", "degree"):
            return abs(float(step.to("radian").magnitude)) / wavelength
        length = _number(signal, "camera_length_cm")
        if step.check("[length]") and length:
            return abs(float(step.to("cm").magnitude)) / length / wavelength
    raise InputError(
        f"{name}: detector axis '{axis.name}' has the unit '{axis.units}', and patterns can be matched only in 1/Å. "
        "Give --scale (1/Å a pixel), or set scan.scale_inv_angstrom in the recipe."
    )


def _check_energy(energy: float | None, *, name: str) -> None:
    if energy is None:
        raise InputError(f"{name}: no beam energy in its metadata. Give it in keV with --beam-energy.")
    low, high = ENERGIES_KEV
    if not low <= energy <= high:
        raise InputError(
            f"{name}: a beam energy of {energy:g} keV is stated, and {low:g} to {high:g} is expected. "
            "Give it in keV with --beam-energy."
        )


def _precession_deg(signal: Any, *, name: str) -> float | None:
    """Return the half-angle of precession that the metadata state."""
    mrad = _number(signal, "rocking_angle_mrad")
    if mrad is None:
        return None
    angle = float(np.degrees(mrad / 1000))
    if not 0 <= angle < MAX_PRECESSION_DEG:
        raise InputError(
            f"{name}: its metadata state a rocking angle of {mrad:g} mrad ({angle:.3g} degrees), and 0 to "
            f"{MAX_PRECESSION_DEG:g} degrees is expected. Give the half-angle in degrees with --precession."
        )
    return angle


def _check_plausible(signal: Any, scale: float, energy: float, *, name: str) -> None:
    if not 0 < scale < np.inf:
        raise InputError(f"{name}: its scale is {scale:g} 1/Å a pixel. Give the true one with --scale (1/Å a pixel).")
    half = min(axis.size for axis in signal.axes_manager.signal_axes) / 2
    angle = half * scale * wavelength_angstrom(energy)
    if angle > MAX_ANGLE_RAD:
        raise InputError(
            f"{name}: its calibration ({scale:.4g} 1/Å a pixel) puts the detector's edge at {angle:.2f} rad, "
            f"over {MAX_ANGLE_RAD}. Give the true scale with --scale (1/Å a pixel)."
        )


def _check_center(signal: Any, center_xy: tuple[float, float] | None, *, name: str) -> None:
    """Refuse a direct beam that somebody stated and that lies outside the detector, or nowhere."""
    if center_xy is None:
        return
    columns, rows = (axis.size for axis in signal.axes_manager.signal_axes)
    x, y = center_xy
    if not (0 <= x <= columns - 1 and 0 <= y <= rows - 1):
        raise InputError(
            f"{name}: the direct beam is stated at column {x:g}, row {y:g}, and the detector has {columns} columns and "
            f"{rows} rows. Give the true place with --center COLUMN,ROW in pixels, or leave it out: it is found then."
        )


def _center_of_axes(signal: Any) -> tuple[float, float] | None:
    """Return the zero of the detector axes in pixels, unless nobody set it or it lies outside the pattern."""
    axes = signal.axes_manager.signal_axes
    if any(axis.offset == 0 or axis.scale == 0 for axis in axes):
        return None
    x, y = (-axis.offset / axis.scale for axis in axes)
    return (x, y) if 0 < x < axes[0].size and 0 < y < axes[1].size else None


def _step_nm(signal: Any) -> float | None:
    axis = signal.axes_manager.navigation_axes[0]
    unit = unit_of(str(axis.units))
    if unit is None or not (1 * unit).check("[length]"):
        return None
    step = abs(float((axis.scale * unit).to("nm").magnitude))
    return step or None


def _number(signal: Any, key: str) -> float | None:
    value = signal.metadata.get_item(KEYS[key], default=None)
    return float(value) if isinstance(value, (int, float, np.number)) and np.isfinite(value) else None


def _positive(signal: Any, key: str) -> float | None:
    value = _number(signal, key)
    return value if value is not None and value > 0 else None
