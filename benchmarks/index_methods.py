"""Run one way of indexing on one scan, in a process of its own: what was found, how fast, with how much memory.

A job (.npz) holds `patterns` (n, rows, columns) as the scan counts them, the scan's `shape`, `center_xy`,
`scale_inv_angstrom`, `beam_energy_kev`, `precession_deg`, `k_min_inv_angstrom`, `k_max_inv_angstrom`, `spacing_deg`
and `phases` (JSON of phase records). An answer holds `orientation` (n, 4) in our convention, `phase_id` (n,) and
`seconds` (JSON): of the library, of preparation (polar transform or peak finding) and of matching.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dpcurate.crystal_maps import read_index
from dpcurate.phases import read_cif
from dpcurate.preprocess import k_max_of
from dpcurate.recipe import Recipe
from dpcurate.scans import open_scan

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Found:
    """What one method found on one scan; arrays along the scan's rows."""

    orientation: np.ndarray
    """(n, 4)."""
    phase_id: np.ndarray
    """(n,), -1 where not indexed."""
    seconds: dict[str, float]
    """`library`, `preparation` and `matching`, as far as the method tells them apart."""
    peak_gib: float
    """Largest resident memory of the process, libraries of code included."""
    more: dict[str, object] = field(default_factory=dict)

    def rate(self, *parts: str) -> float:
        """Patterns a second over some of the seconds; default: all but the library's."""
        chosen = parts or [name for name in self.seconds if name != "library"]
        return len(self.phase_id) / sum(self.seconds[name] for name in chosen)


def write_job(scan_path: Path, cifs: list[Path], spacing_deg: float, path: Path, *, every: int = 1) -> None:
    """Write the job that peers read: every n-th pixel along both axes, and the centre that our tool finds."""
    scan, preprocess = open_scan(scan_path), Recipe().preprocess
    known, detector = scan.calibration, scan.patterns.shape[2:]
    patterns = scan.patterns[::every, ::every].compute()
    np.savez(
        path,
        patterns=patterns.reshape(-1, *detector),
        shape=patterns.shape[:2],
        center_xy=known.center_xy,
        scale_inv_angstrom=known.scale_inv_angstrom,
        beam_energy_kev=known.beam_energy_kev,
        precession_deg=known.precession_deg,
        k_min_inv_angstrom=preprocess.k_min_inv_angstrom,
        k_max_inv_angstrom=k_max_of(detector, known.center_xy, known.scale_inv_angstrom, preprocess),
        spacing_deg=spacing_deg,
        phases=json.dumps([read_cif(cif).model_dump(mode="json") for cif in cifs]),
    )


def run_alone(command: list[str]) -> float:
    """Run a command and return its peak memory in GiB; its own words are shown when it fails."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(command, stdout=words, stderr=words, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            words.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{words.read().decode(errors='replace')[-3000:]}")
    return usage.ru_maxrss / 2**20


def by_peer(python: str, script: str, job: Path, settings: dict) -> Found:
    """Run a peer's script on a job."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        told = ["--job", str(job), "--out", str(answer), "--settings", json.dumps(settings)]
        peak = run_alone([python, str(PEERS / script), *told])
        with np.load(answer) as file:
            arrays = dict(file)
    known = {"orientation", "phase_id", "seconds"}
    more = {name: value for name, value in arrays.items() if name not in known}
    return Found(arrays["orientation"], arrays["phase_id"], json.loads(str(arrays["seconds"])), peak, more)


def by_dpcurate(scan_path: Path, cifs: list[Path], spacing_deg: float, engine: str) -> tuple[Found, object]:
    """Run `dpcurate index` on a scan; what it found, and the index."""
    program = str(Path(sys.executable).with_name("dpcurate"))
    phases = [word for cif in cifs for word in ("--phase", str(cif))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scan.index"
        options = ["--engine", engine, "--spacing", str(spacing_deg), "--out", str(out)]
        peak = run_alone([program, "index", str(scan_path), *phases, *options])
        index = read_index(out)
    found = Found(index.orientation.reshape(-1, 4), index.phase_id.ravel(), dict(index.info["seconds"]), peak)
    return found, index
