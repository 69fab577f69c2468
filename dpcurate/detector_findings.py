"""What the doctor says of a scan's detector, dose and beam: one finding a check, in plain sentences with numbers."""

import numpy as np

from dpcurate.bad_patterns import faulty_lines
from dpcurate.checkup import Checkup
from dpcurate.findings import Finding, Verdict, judged
from dpcurate.reflections import wavelength_angstrom

FEW_ELECTRONS = (2000.0, 300.0)
"""Electrons a pattern below which indexing gets unsure, and hopeless."""

FEW_SPOTS = (3.0, 1.0)
"""The same of the median number of spots that stand out of the noise."""

FAULTY_SHARE = (0.005, 0.05)
"""Shares of faulty detector pixels from which they should be looked at, and are wrong."""

BAD_SHARE = (0.01, 0.2)
"""The same of patterns that cannot be used."""

BACKGROUND_SHARE = (0.6, 0.85)
"""The same of the electrons in the background."""

SMALL_REACH = (0.8, 0.5)
"""Outermost radius, 1/Angstrom, below which few reflections are left, and too few."""

WIDE_BEAM = (0.5, 0.9)
"""Diameter of the direct beam over the distance of the nearest spots, from which discs nearly touch, and overlap."""

EMPTY_SPOTS = 0
"""Spots of a pattern of vacuum or of no crystal."""

FLAT_TOP = 0.8
"""A disc's mean over its inner half is more than this share of its top; a Gaussian's less."""


def detector_findings(checkup: Checkup) -> list[Finding]:
    """Findings about patterns, counts, faulty pixels, dose, background, reach and beam."""
    return [
        _patterns(checkup),
        _saturation(checkup),
        _faulty(checkup),
        _dose(checkup),
        _empty(checkup),
        _background(checkup),
        _reach(checkup),
        _inner(checkup),
        _beam(checkup),
    ]


def _patterns(checkup: Checkup) -> Finding:
    """Size, and patterns that cannot be used."""
    rows, columns, h, w = checkup.shape
    n_bad = sum(checkup.bad.values())
    found = f"{rows} x {columns} patterns of {h} x {w} {checkup.dtype}; {checkup.n_sampled} looked at"
    found += (
        f", {n_bad} of them unusable ({', '.join(f'{n} {why}' for why, n in checkup.bad.items())})" if n_bad else ""
    )
    share = n_bad / checkup.n_sampled
    verdict: Verdict = "ok" if n_bad == 0 else max_verdict("look", judged(share, BAD_SHARE))
    advice = "" if n_bad == 0 else "they are left out of the map; export the scan as counts if they should be there"
    return Finding("patterns", found, verdict, advice, share)


def max_verdict(a: Verdict, b: Verdict) -> Verdict:
    """The worse of two verdicts."""
    order: list[Verdict] = ["cannot be known", "ok", "look", "wrong"]
    return max(a, b, key=order.index)


def _saturation(checkup: Checkup) -> Finding:
    """Pixels at the highest value."""
    ceiling = checkup.ceiling
    where = f"{ceiling.in_beam:.0%} of them in the direct beam"
    if not ceiling.cut_off:
        found = f"highest value {ceiling.value:g} ({checkup.dtype}), {ceiling.count} times: nothing is cut off"
        return Finding("saturation", found, "ok", "", 0.0)
    found = f"cut off at {ceiling.value:g} in {ceiling.patterns / len(checkup.pixel):.0%} of the patterns, {where}"
    if ceiling.in_beam > 0.9:
        advice = (
            "harmless for indexing, which leaves the direct beam out; its place may be off by a fraction of a pixel"
        )
        return Finding("saturation", found, "look", advice, ceiling.in_beam)
    return Finding("saturation", found, "wrong", "spots have lost their intensities: less beam or dwell time", 0.0)


def _faulty(checkup: Checkup) -> Finding:
    """Dead and hot pixels, columns and rows."""
    faulty = checkup.dead | checkup.hot
    share = float(faulty.mean())
    found = f"{checkup.dead.sum()} dead and {checkup.hot.sum()} hot of {faulty.size}"
    columns, rows = faulty_lines(faulty)
    for name, lines in (("columns", columns), ("rows", rows)):
        if len(lines):
            found += f"; {name} {', '.join(map(str, lines[:8]))}{' ...' if len(lines) > 8 else ''}"
    verdict = judged(share, FAULTY_SHARE)
    return Finding("faulty pixels", found, verdict, "" if verdict == "ok" else "index with --engine fast", share)


def _dose(checkup: Checkup) -> Finding:
    """Electrons and spots of a pattern."""
    electrons = float(np.median(checkup.features.total))
    n_spots = float(np.median(np.bincount(checkup.spots.pattern, minlength=len(checkup.pixel))))
    unit = "electrons" if checkup.counting else f"electrons ({checkup.gain:.3g} counts each, from the noise)"
    found = f"{electrons:,.0f} {unit} a pattern, {n_spots:g} spots above the noise (medians)"
    low = electrons < FEW_ELECTRONS[1] or n_spots < FEW_SPOTS[1]
    few = electrons < FEW_ELECTRONS[0] or n_spots < FEW_SPOTS[0]
    verdict: Verdict = "wrong" if low else "look" if few else "ok"
    advice = "" if verdict == "ok" else "more dose, or sum neighbouring patterns (HyperSpy: signal.rebin)"
    return Finding("dose", found, verdict, advice, electrons)


def _empty(checkup: Checkup) -> Finding:
    """Patterns without a spot."""
    share = float((np.bincount(checkup.spots.pattern, minlength=len(checkup.pixel)) == EMPTY_SPOTS).mean())
    found = f"{share:.0%} of the patterns have no spot (vacuum, amorphous or too weak)"
    advice = "" if share < 0.1 else "these pixels get a low confidence; do not trust a map of them"
    return Finding("vacuum", found, judged(share, (0.1, 0.9)), advice, share)


def _background(checkup: Checkup) -> Finding:
    """Electrons between the spots."""
    share = float(np.median(checkup.features.background_share))
    verdict = judged(share, BACKGROUND_SHARE)
    advice = "" if verdict == "ok" else "thick or amorphous material; spots may drown: energy filter, thinner sample"
    return Finding("background", f"{share:.0%} of the electrons lie between the spots (median)", verdict, advice, share)


def _reach(checkup: Checkup) -> Finding:
    """How far out the patterns are used, and what is left of the phase there."""
    found = f"indexing uses {checkup.k_min:.3g} to {checkup.k_max:.3g} 1/Å"
    for phase, shells in zip(checkup.phases, checkup.shells, strict=True):
        n = int(((shells.radius > checkup.k_min) & (shells.radius <= checkup.k_max)).sum())
        found += f"; {n} distances of spots of {phase.name}"
        if n == 0:
            return Finding("detector", found, "wrong", "shorter camera length, or the true --scale", checkup.k_max)
    low = checkup.k_max <= max(checkup.k_min, SMALL_REACH[1])
    verdict: Verdict = "wrong" if low else "look" if checkup.k_max < SMALL_REACH[0] else "ok"
    advice = "" if verdict == "ok" else "check --scale and --center; a shorter camera length shows more reflections"
    return Finding("detector", found, verdict, advice, checkup.k_max)


def _inner(checkup: Checkup) -> Finding:
    """Whether the direct beam reaches into the radii that are used, or strong spots are left out."""
    scale = checkup.calibration.scale_inv_angstrom
    beam = 2.5 * float(np.median(checkup.features.direct_sigma_px)) * scale
    found = f"the direct beam reaches to {beam:.3f} 1/Å; radii below {checkup.k_min:.3g} are left out"
    if beam > checkup.k_min:
        return Finding("direct beam", found, "look", f"preprocess.k_min_inv_angstrom = {beam:.2f} in the recipe", beam)
    inner = [
        f"{phase.name} at {shells.radius[0]:.3f}"
        for phase, shells in zip(checkup.phases, checkup.shells, strict=True)
        if shells.radius[0] < checkup.k_min
    ]
    if inner:
        return Finding(
            "direct beam",
            f"{found}, and with them spots of {', '.join(inner)}",
            "look",
            f"preprocess.k_min_inv_angstrom = {max(beam, 0.02):.2f} in the recipe keeps them",
            beam,
        )
    return Finding("direct beam", found, "ok", "", beam)


def _beam(checkup: Checkup) -> Finding:
    """Discs rather than spots: the direct beam's size against the distance of spots."""
    scale = checkup.calibration.scale_inv_angstrom
    sigma = float(np.median(checkup.features.direct_sigma_px))
    inner = checkup.mean_profile()[: int(sigma) + 1]
    disc = bool(sigma > 2 and inner[1:].mean() > FLAT_TOP * inner.max())
    diameter = 4 * sigma if disc else 2.355 * sigma
    kind = "disc, diameter" if disc else "spot, full width at half maximum"
    found = f"{kind} {diameter:.1f} px"
    if disc:
        mrad = diameter / 2 * scale * wavelength_angstrom(checkup.calibration.beam_energy_kev) * 1000
        found += f", convergence half-angle about {mrad:.1f} mrad"
    if not checkup.shells:
        return Finding("spots or discs", found, "look" if disc else "ok", "", diameter)
    nearest = min(float(shells.radius[0]) for shells in checkup.shells) / scale
    verdict = judged(diameter / nearest, WIDE_BEAM)
    advice = "" if verdict == "ok" else "smaller condenser aperture; templates are made for spots that do not overlap"
    return Finding("spots or discs", f"{found}; nearest spots {nearest:.1f} px apart", verdict, advice, diameter)
