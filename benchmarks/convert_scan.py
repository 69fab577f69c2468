"""Turn an independent scan with exact truth (.npz) into a calibrated .hspy with NAME.truth.npz beside it.

Example: python benchmarks/convert_scan.py --data scan_dev.npz --out scan_dev.hspy
"""

import argparse
from pathlib import Path

import hyperspy.api as hs
import numpy as np

STEP_NM = 10.0
"""The simulation has no length scale."""


def convert(data: str, out: Path, *, rows: slice = slice(None), columns: slice = slice(None)) -> None:
    """Write the scan, or a cut of it, and its truth. The direct beam's position is left for the tool to find."""
    with np.load(data) as file:
        cut = {key: file[key][rows, columns] for key in ("data", "quat", "quat2", "weight", "grain", "thickness")}
        scale, energy, precession = (float(file[key]) for key in ("scale", "energy", "precession"))
    signal = hs.signals.Signal2D(cut.pop("data"))
    for axis, name in zip(signal.axes_manager.navigation_axes, "xy", strict=True):
        axis.name, axis.units, axis.scale = name, "nm", STEP_NM
    for axis, name in zip(signal.axes_manager.signal_axes, ("kx", "ky"), strict=True):
        axis.name, axis.units, axis.scale = name, "1/Å", scale
    signal.set_signal_type("electron_diffraction")
    signal.metadata.General.title = "LiNiO2 polycrystal, simulated (abTEM Bloch waves)"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", energy / 1000)
    signal.metadata.set_item("Acquisition_instrument.TEM.rocking_angle", np.radians(precession) * 1000)
    signal.save(out, overwrite=True, compression="gzip", compression_opts=9, chunks=(6, 6, 128, 128))
    cut["thickness_angstrom"] = cut.pop("thickness")
    np.savez_compressed(out.with_name(out.stem + ".truth.npz"), **cut)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    convert(arguments.data, arguments.out)
