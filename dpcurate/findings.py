"""What the doctor says of a scan's calibration: one finding a check, in plain sentences with numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from dpcurate.checkup import FEWEST_SPOTS, Checkup, union
from dpcurate.schema import PhaseRecord
from dpcurate.spot_geometry import Shells, explained, rounded

Verdict = Literal["ok", "look", "wrong", "cannot be known"]

SCALE_OFF = (0.01, 0.025)
"""Errors of the scale from which it is doubtful, and wrong; docs/guide.md says what they do to a map."""

CENTER_OFF_PX = (1.0, 2.5)
"""The same of the direct beam, pixels of a detector 128 across; wider on larger ones."""

RATIO_OFF = (0.015, 0.03)
"""The same of long over short axis of what should be a circle, less 1."""

EXPLAINED = (0.9, 0.8)
"""Shares of the found spots, beyond chance, below which a phase is doubtful, and wrong. On seven virtual scans and an
independent one the right phase had 1.00 each time; most wrong ones had 0.2 to 0.8, those with the same distances 1."""

ALIKE = (0.5, 0.35)
"""The same of `Fit.score`, which falls where a phase has many distances without a spot: right 0.64 to 0.91."""

TOO_DENSE = 0.9
"""Share of all distances near a reflection from which any spot would be explained, and nothing is known."""

LEAST_PRECESSION_DEG = 0.1
"""Instruments precess by more. A rocking angle of less has mostly been written in degrees where mrad are meant."""

ASSUMED = {
    "precession_deg": "0 is taken. Give the half-angle with --precession if the beam was precessed",
    "rotation_deg": "orientations are in the detector's frame. Measure the turn once, set scan.rotation_deg",
    "step_nm": "1 nm is taken. Set scan.step_nm in the recipe; only scale bars hang on it",
}


@dataclass(frozen=True)
class Finding:
    """One check of a scan."""

    check: str
    found: str
    """What was found, with numbers."""
    verdict: Verdict
    advice: str = ""
    """What to do, with the option; empty where nothing is to be done."""
    value: float | None = None
    """The number that decided, in the unit that ``found`` names."""


def judged(size: float, limits: tuple[float, float]) -> Verdict:
    """``ok`` below the first limit, ``look`` below the second, ``wrong`` from there."""
    return "ok" if size < limits[0] else "look" if size < limits[1] else "wrong"


def calibration_findings(checkup: Checkup) -> list[Finding]:
    """Findings about units, scale, phases, centre, ellipse and precession, and about what cannot be known."""
    return [
        *_sources(checkup),
        *_phase(checkup),
        _scale(checkup),
        *_lookalikes(checkup.phases, checkup.shells, pixel=checkup.calibration.scale_inv_angstrom),
        _center(checkup),
        _symmetry(checkup),
        _drift(checkup),
        _ellipse(checkup),
        _precession(checkup),
        *_unknowable(checkup),
    ]


def _sources(checkup: Checkup) -> list[Finding]:
    """Where each value of the calibration came from."""
    c = checkup.calibration
    shown = {
        "beam_energy_kev": f"{c.beam_energy_kev:g} keV",
        "scale_inv_angstrom": f"{c.scale_inv_angstrom:.5g} 1/Å a pixel",
        "step_nm": f"{c.step_nm:g} nm",
    }
    names = {"beam_energy_kev": "beam energy", "scale_inv_angstrom": "unit and scale", "step_nm": "scan step"}
    return [
        Finding(names[key], f"{value} ({c.sources[key]})", "look" if assumed else "ok", ASSUMED[key] if assumed else "")
        for key, value in shown.items()
        for assumed in [c.sources[key] == "assumed"]
    ]


def _phase(checkup: Checkup) -> list[Finding]:
    """Whether the phases explain the spots, together and one by one."""
    shells = union(checkup.shells)
    if shells is None:
        return []
    names = ", ".join(phase.name for phase in checkup.phases)
    if checkup.fit is None:
        return [Finding("phase", f"{names}: {_too_few(checkup)}", "cannot be known", "see dose")]
    together, before, chance = phase_share(checkup, shells)
    found = f"{names}: explains {together:.0%} of {len(checkup.spots.pattern)} spots; chance would {chance:.0%}"
    if chance > TOO_DENSE:
        return [Finding("phase", f"{found}: its reflections lie too close", "cannot be known", "index a preview")]
    beyond = (together - chance) / max(1 - chance, 1e-9)
    if before < together - 0.1:
        found += f" (at the scale below; {before:.0%} at the one given)"
    verdict = max(
        judged(-beyond, (-EXPLAINED[0], -EXPLAINED[1])),
        judged(-checkup.fit.score, (-ALIKE[0], -ALIKE[1])),
        key=["ok", "look", "wrong"].index,
    )
    if verdict != "ok":
        found += f"; likeness of the radii {checkup.fit.score:.2f}, where a right phase has above {ALIKE[0]}"
    advice = "" if verdict == "ok" else "another phase, or one more: give its CIF with --phase"
    return [Finding("phase", found, verdict, advice, beyond)]


def phase_share(checkup: Checkup, shells: Shells) -> tuple[float, float, float]:
    """Share of the spots that lie where shells have spots: at the fitted scale, at the given one, and by chance."""
    assert checkup.fit is not None
    radius = rounded(checkup.spots.place_px, checkup.fit.ellipse)
    scale = checkup.calibration.scale_inv_angstrom
    limits = {"first_px": checkup.first_px, "reach_px": checkup.reach_px}
    fitted, chance = explained(radius, shells, scale * checkup.fit.factor, **limits)
    return fitted, explained(radius, shells, scale, **limits)[0], chance


def _scale(checkup: Checkup) -> Finding:
    """The scale that the spots ask for."""
    scale, fit = checkup.calibration.scale_inv_angstrom, checkup.fit
    shells = union(checkup.shells)
    if shells is None:
        return Finding("scale", "without a phase it cannot be checked", "cannot be known", "give a CIF with --phase")
    if fit is None:
        return Finding("scale", _too_few(checkup), "cannot be known", "see dose")
    together, _, chance = phase_share(checkup, shells)
    if chance > TOO_DENSE:
        return Finding("scale", "the phase's reflections lie too close", "cannot be known", "index a preview")
    if (together - chance) / (1 - chance) < EXPLAINED[1] or fit.score < ALIKE[1]:
        found = f"no scale within 20 % of {scale:.5g} makes the phase explain the spots"
        return Finding("scale", found, "cannot be known", "see phase")
    error, spread = 1 / fit.factor - 1, _spread([1 / half.factor for half in checkup.halves or ()])
    verdict = judged(abs(error), SCALE_OFF)
    found = f"{scale:.5g} 1/Å a pixel is {abs(error):.1%} too {'large' if error > 0 else 'small'} (± {spread:.1%})"
    if abs(error) <= max(2 * spread, 0.002):
        found = f"{scale:.5g} 1/Å a pixel fits the spots (± {spread:.1%})"
    advice = f"--scale {scale * fit.factor:.5g}, unless the phase is another" if verdict != "ok" else ""
    return Finding("scale", found, verdict, advice, error)


def _lookalikes(phases: Sequence[PhaseRecord], shells: Sequence[Shells], *, pixel: float) -> list[Finding]:
    """Pairs of phases whose spots lie at the same distances, to half a pixel."""
    findings = []
    for (first, a), (second, b) in combinations(zip(phases, shells, strict=True), 2):
        apart = max(_apart(a, b), _apart(b, a)) / pixel
        if apart < 1.0:
            findings.append(
                Finding(
                    "phases alike",
                    f"{first.name} and {second.name}: their spots lie at the same distances, to {apart:.1f} pixels",
                    "look",
                    "geometry cannot tell them apart, only intensities can: index with one, or do not trust the phase",
                    apart,
                )
            )
    return findings


def _apart(a: Shells, b: Shells) -> float:
    """Largest distance of a shell of a from the nearest of b, within the reach of both, 1/Angstrom."""
    inside = a.radius[a.radius <= min(a.radius[-1], b.radius[-1]) * 0.98]
    return float(np.abs(inside[:, None] - b.radius).min(axis=1).max(initial=0))


def _center(checkup: Checkup) -> Finding:
    """The stated centre against the direct beam."""
    c = checkup.calibration
    off = float(np.hypot(*np.subtract(c.center_xy, checkup.beam_xy)))
    where = "{:.1f}, {:.1f}".format(*checkup.beam_xy)
    found = f"direct beam at {where}; stated {c.center_xy[0]:.1f}, {c.center_xy[1]:.1f} ({c.sources['center_xy']})"
    verdict = judged(off / _larger(checkup), CENTER_OFF_PX)
    flipped = checkup.calibration.flip
    x, y = checkup.beam_xy
    option = f"--center {x:.1f},{(checkup.shape[2] - 1 - y) if flipped else y:.1f}, or leave it out: it is found then"
    return Finding("centre", f"{found}: {off:.1f} px off", verdict, "" if verdict == "ok" else option, off)


def _symmetry(checkup: Checkup) -> Finding:
    """The direct beam against the centre of symmetry of the spots."""
    if checkup.friedel is None:
        return Finding("centre, by spots", "too few opposite spots to check the direct beam", "cannot be known", "")
    (x, y), pairs = checkup.friedel
    off = float(np.hypot(x, y))
    found = f"{pairs} pairs of opposite spots put the centre {off:.1f} px from the direct beam"
    verdict = judged(off / _larger(checkup), CENTER_OFF_PX)
    advice = f"--center {checkup.beam_xy[0] + x:.1f},{checkup.beam_xy[1] + y:.1f}, if the direct beam is cut or split"
    return Finding("centre, by spots", found, verdict, "" if verdict == "ok" else advice, off)


def _drift(checkup: Checkup) -> Finding:
    """How far the direct beam moves over the scan."""
    center, pixel = checkup.features.center_xy, checkup.pixel.astype(float)
    extent = np.maximum(np.array(checkup.shape[:2]) - 1, 1)
    place = np.column_stack([pixel / extent, np.ones(len(pixel))])
    slope = np.linalg.lstsq(place, center, rcond=None)[0]
    left = center - place @ slope
    good = np.hypot(*left.T) <= 5 * max(float(np.median(np.hypot(*left.T))), 0.1)
    slope = np.linalg.lstsq(place[good], center[good], rcond=None)[0]
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) @ slope[:2]
    drift = float(max(np.hypot(*(a - b)) for a, b in combinations(corners, 2)))
    scatter = float(np.median(np.hypot(*(center[good] - place[good] @ slope).T)))
    found = f"the direct beam moves {drift:.1f} px over the scan, and {scatter:.1f} px from pattern to pattern"
    verdict = judged(max(drift, 2 * scatter) / _larger(checkup), (1.5, 4.0))
    advice = "" if verdict == "ok" else "align the patterns first (pyxem: signal.center_direct_beam())"
    return Finding("drift of the centre", found, verdict, advice, drift)


def _ellipse(checkup: Checkup) -> Finding:
    """Elliptical distortion."""
    fit, halves = checkup.fit, checkup.halves
    if fit is None or halves is None:
        return Finding("ellipse", _too_few(checkup), "cannot be known", "see dose")
    spread = float(np.hypot(*np.subtract(halves[0].ellipse, halves[1].ellipse)))
    found = f"long over short axis {fit.ratio:.3f} (± {spread:.3f}), long axis {fit.axis_deg:.0f}° from x towards y"
    if fit.ratio - 1 < spread:
        found = f"long over short axis below {1 + spread + fit.ratio - 1:.3f}"
    if spread > RATIO_OFF[0]:
        return Finding("ellipse", f"{found}: too unsure", "cannot be known", "a phase (--phase) or more grains help")
    verdict = judged(fit.ratio - 1, RATIO_OFF)
    if not checkup.shells and verdict != "ok":
        advice = "a phase (--phase) makes it sure: a single crystal that is not cubic may look so"
        return Finding("ellipse", found, "look", advice, fit.ratio)
    advice = "correct the patterns first (pyxem: signal.apply_affine_transformation)" if verdict != "ok" else ""
    return Finding("ellipse", found, verdict, advice, fit.ratio)


def _precession(checkup: Checkup) -> Finding:
    """The precession angle: mrad for degrees is the usual mistake."""
    c = checkup.calibration
    angle, source = c.precession_deg, c.sources["precession_deg"]
    found = f"half-angle {angle:.3g}° ({source})"
    if source == "assumed":
        return Finding("precession", "none stated", "look", ASSUMED["precession_deg"], angle)
    if source == "metadata" and 0 < angle < LEAST_PRECESSION_DEG:
        mrad = np.radians(angle) * 1000
        return Finding(
            "precession",
            f"{found}: the metadata say {mrad:.3g} mrad, which no instrument uses",
            "wrong",
            f"--precession {mrad:.3g}, if it was meant in degrees",
            angle,
        )
    return Finding("precession", found, "ok", "", angle)


def _unknowable(checkup: Checkup) -> list[Finding]:
    """What no pattern can tell."""
    c = checkup.calibration
    stated = c.sources["rotation_deg"] != "assumed"
    turn = f"{c.rotation_deg:g}° ({c.sources['rotation_deg']})" if stated else "not stated"
    return [
        Finding(
            "handedness (flip)",
            f"scan.flip is {str(c.flip).lower()}; a flipped pattern is that of another orientation, and fits as well",
            "cannot be known",
            "from the instrument, or a crystal of known orientation",
        ),
        Finding(
            "scan rotation",
            f"{turn}; a turned detector turns every orientation, and fits as well",
            "cannot be known",
            "" if stated else ASSUMED["rotation_deg"],
        ),
    ]


def _larger(checkup: Checkup) -> float:
    """How much larger the detector is than 128 pixels, at least 1."""
    return max(1.0, max(checkup.shape[2:]) / 128)


def _spread(values: Sequence[float]) -> float:
    """Half the difference of two values, at least 0.001; 0.01 where there are none."""
    return max(abs(values[0] - values[1]) / 2, 0.001) if len(values) == 2 else 0.01


def _too_few(checkup: Checkup) -> str:
    return f"{len(checkup.spots.pattern)} spots in {len(checkup.pixel)} patterns are too few: {FEWEST_SPOTS} are needed"
