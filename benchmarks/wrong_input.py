"""How many spots the matched templates explain when phase, scale or centre are right, and when they are wrong.

Example: python benchmarks/wrong_input.py --scan demo.hspy --phase LiNiO2.cif --wrong Ni.cif --wrong Fe-bcc.cif

Prints a table of previews: share of the spots beyond chance (`dpcurate.explained`), median correlation and reliability,
and the scale and phase that `dpcurate doctor` makes of the same input.
"""

import argparse

import numpy as np

from dpcurate import doctor
from dpcurate.preview import preview_scan
from dpcurate.recipe import load_recipe
from dpcurate.scans import open_scan

SCALES = (0.9, 0.95, 0.97, 0.98, 1.02, 1.03, 1.05, 1.1)
SHIFTS_PX = (1.0, 2.5, 5.0)


def row(name: str, scan: str, phase: str, *, every: int, spacing: float, **choices: object) -> None:
    recipe = load_recipe(phases=[phase], matching__engine="fast", library__spacing_deg=spacing, **choices)
    preview = preview_scan(scan, recipe, every=every)
    verdicts = {found.check: found.verdict for found in doctor(scan, phases=[phase], **choices)}
    told = ", ".join(f"{check} {verdicts[check]}" for check in ("phase", "scale", "centre"))
    numbers = np.median(preview.correlation), np.median(preview.reliability)
    shown = f"{preview.explained.beyond_chance:.2f} | {numbers[0]:.3f} | {numbers[1]:.3f}"
    print(f"| {name} | {shown} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", required=True)
    parser.add_argument("--phase", required=True, help="the right one")
    parser.add_argument("--wrong", action="append", default=[], help="a wrong one; again for each")
    parser.add_argument("--every", type=int, default=4, help="pixels")
    parser.add_argument("--spacing", type=float, default=3.0, help="degrees between templates")
    given = parser.parse_args()
    known = {"every": given.every, "spacing": given.spacing}
    calibration = open_scan(given.scan).calibration
    scale, (x, y) = calibration.scale_inv_angstrom, calibration.center_xy
    print("| input | spots explained | correlation | reliability | doctor |\n| --- | --- | --- | --- | --- |")
    row("right", given.scan, given.phase, **known)
    for wrong in given.wrong:
        row(wrong.split("/")[-1], given.scan, wrong, **known)
    for factor in SCALES:
        row(f"scale x {factor}", given.scan, given.phase, **known, scan__scale_inv_angstrom=scale * factor)
    for shift in SHIFTS_PX:
        row(f"centre {shift:g} px off", given.scan, given.phase, **known, scan__center_xy=(x - shift, y))


if __name__ == "__main__":
    main()
