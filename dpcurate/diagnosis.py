"""The doctor: a scan looked at before it is indexed, what is right, doubtful or wrong, and what to do about it."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpcurate.checkup import SAMPLED, Checkup, examine
from dpcurate.detector_findings import detector_findings
from dpcurate.errors import InputError
from dpcurate.findings import Finding, calibration_findings
from dpcurate.pipeline import read_phases
from dpcurate.recipe import Recipe, load_recipe
from dpcurate.scans import open_scan

FILES = ("doctor.png", "findings.json", "report.txt")
"""What a folder of the doctor holds."""

WIDTH = 118
"""Characters of a line of the table."""


def doctor(
    scan: Any,
    *,
    phases: list[str] | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    **choices: object,
) -> list[Finding]:
    """Findings about a scan (path or HyperSpy signal), from about 300 of its patterns.

    Parameters
    ----------
    scan
        A path to anything HyperSpy reads, or a 4D HyperSpy signal.
    phases
        CIF files; default: those of the recipe. Without one, scale and phase cannot be checked.
    recipe
        TOML file; default: `dpcurate.toml` in the working folder, if there is one.
    out
        Folder for a picture (``doctor.png``) and the findings; nothing is written without it.
    choices
        Recipe keys as ``section__key=value``, such as ``scan__beam_energy_kev=200``.

    Raises
    ------
    InputError
        For a scan, calibration or phase that cannot be used at all, and a folder that holds something else.
    """
    return diagnose(scan, load_recipe(recipe, phases=phases, **choices), out=Path(out) if out is not None else None)[1]


def diagnose(source: Any, recipe: Recipe, *, out: Path | None = None) -> tuple[Checkup, list[Finding]]:
    """Measurements and findings of a scan; see `doctor`."""
    if out is not None:
        _check_out(out)
    scan = open_scan(source, recipe.scan)
    phases = read_phases(recipe.phases) if recipe.phases else ()
    checkup = examine(scan, phases, recipe.preprocess, sampled=SAMPLED)
    findings = [*calibration_findings(checkup), *detector_findings(checkup)]
    if out is not None:
        _write(checkup, findings, out)
    return checkup, findings


def anything_wrong(findings: Sequence[Finding]) -> bool:
    """Whether one of the findings is wrong."""
    return any(finding.verdict == "wrong" for finding in findings)


def table(findings: Sequence[Finding]) -> str:
    """Findings as lines of text: check, verdict, what was found, and what to do below it."""
    first = max(len(finding.check) for finding in findings) + 2
    second = max(len(finding.verdict) for finding in findings) + 2
    lines = []
    for finding in findings:
        verdict = finding.verdict.upper() if finding.verdict == "wrong" else finding.verdict
        head = f"{finding.check:{first}}{verdict:{second}}"
        lines += textwrap.wrap(
            finding.found, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
        )
        if finding.advice:
            indent = " " * len(head)
            lines += textwrap.wrap(
                f"-> {finding.advice}", WIDTH, initial_indent=indent, subsequent_indent=f"{indent}   "
            )
    return "\n".join(lines)


def verdict_line(findings: Sequence[Finding]) -> str:
    """How many findings there are of each verdict, in one sentence."""
    number = {kind: sum(finding.verdict == kind for finding in findings) for kind in ("wrong", "look", "ok")}
    unknown = len(findings) - sum(number.values())
    return f"{number['wrong']} wrong, {number['look']} to look at, {number['ok']} ok, {unknown} that cannot be known."


def _check_out(out: Path) -> None:
    """A folder that holds something else is not written into."""
    foreign = sorted(path.name for path in out.iterdir() if path.name not in FILES) if out.is_dir() else []
    if foreign or (out.exists() and not out.is_dir()):
        what = f"holds {foreign[0]}" if foreign else "is no folder"
        raise InputError(f"{out}: {what}, and is not written into. Choose another place with --out.")


def _write(checkup: Checkup, findings: Sequence[Finding], out: Path) -> None:
    from dpcurate.doctor_figures import write_doctor_figure

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_doctor_figure(checkup, out / FILES[0])
        record = {"scan": checkup.name, "findings": [asdict(finding) for finding in findings]}
        (out / FILES[1]).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / FILES[2]).write_text(
            f"{checkup.name}\n\n{table(findings)}\n\n{verdict_line(findings)}\n", encoding="utf-8"
        )
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}). Choose another place with --out.") from error
