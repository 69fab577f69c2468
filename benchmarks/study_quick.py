"""Run the quick preset of the label-quality study and write its report, timed; it must take less than 20 minutes.

Example: python benchmarks/study_quick.py large.index --test dev.index --test precession.index --out study
Indexes are those of scans whose truth lies beside them, from benchmarks/convert_scan.py and benchmarks/index_scans.py,
made by `dpcurate index`. Interrupted, the same command goes on; the time told is then that of the last part.
"""

import argparse
import os
import platform
import time
from pathlib import Path

from dptrain.reports import write_reports
from dptrain.study import run_study
from dptrain.study_numbers import read_findings
from dptrain.study_plan import quick_protocol

LIMIT_S = 20 * 60
"""Of the preset, on two cores."""


def main() -> None:
    """Run, report, and say how long it took; exit code 1 when it was too long or a run is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("indexes", nargs="+", type=Path)
    parser.add_argument("--test", action="append", default=[], type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--processes", default=2, type=int)
    parser.add_argument("--steps", type=int, help="of every run; default: the preset's")
    arguments = parser.parse_args()
    start, protocol = time.monotonic(), quick_protocol()
    run_study(
        arguments.indexes,
        protocol.model_copy(update={"steps": arguments.steps or protocol.steps}),
        out=arguments.out,
        tests=arguments.test,
        device="cpu",
        processes=arguments.processes,
    )
    seconds = time.monotonic() - start
    page = write_reports([arguments.out])[0]
    findings = read_findings(arguments.out)
    print(
        f"{len(findings.runs)} runs, {len(findings.missing)} missing, {seconds:.0f} s, {arguments.processes} processes"
    )
    print(f"{os.cpu_count()} cores, {platform.machine()}; {page}")
    if seconds > LIMIT_S or findings.missing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
