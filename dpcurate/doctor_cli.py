"""The commands that look before they index: ``dpcurate doctor`` and ``dpcurate index --preview``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dpcurate.recipe import Recipe


def doctor_command(
    scan: Annotated[Path, typer.Argument(help="Anything HyperSpy reads: .hspy, .zspy, .blo, .mib, .emd, .npy ...")],
    phase: Annotated[list[Path] | None, typer.Option(help="CIF file; give it again for each phase.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe; default: dpcurate.toml here, if any.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for picture and findings; default: SCAN.doctor.")] = None,
    scale: Annotated[float | None, typer.Option(help="1/Å per detector pixel.")] = None,
    center: Annotated[str | None, typer.Option(help="Direct beam as COLUMN,ROW in pixels; default: found.")] = None,
    beam_energy: Annotated[float | None, typer.Option(help="keV.")] = None,
    precession: Annotated[float | None, typer.Option(help="Half-angle in degrees.")] = None,
) -> None:
    """Look at SCAN before it is indexed: what is right, doubtful or wrong, what to change, what cannot be known.

    Looks at about 300 patterns. Exit code 0: nothing is wrong; 1: something is; 2: the input cannot be used.

    Example: dpcurate doctor tests/data/demo.hspy --phase datasets/phases/LiNiO2.cif --out demo.doctor
    """
    from dpcurate.diagnosis import anything_wrong, diagnose, table, verdict_line
    from dpcurate.recipe import load_recipe, parse_center

    choices = load_recipe(
        recipe,
        phases=[str(path) for path in phase] if phase else None,
        scan__scale_inv_angstrom=scale,
        scan__center_xy=parse_center(center),
        scan__beam_energy_kev=beam_energy,
        scan__precession_deg=precession,
    )
    out = out or scan.with_name(scan.stem + ".doctor")
    findings = diagnose(scan, choices, out=out)[1]
    typer.echo(table(findings))
    typer.echo("")
    typer.echo(verdict_line(findings))
    typer.echo(str(out))
    raise typer.Exit(1 if anything_wrong(findings) else 0)


def show_preview(scan: Path, recipe: "Recipe", *, every: int | None, out: Path) -> None:
    """Match every k-th pixel, write the picture, and say how well it went."""
    from dpcurate.preview import preview_scan

    preview = preview_scan(scan, recipe, every=every, out=out)
    typer.echo(preview.summary())
    warning = preview.explained.warning(preview.phases)
    if warning is not None:
        typer.echo(warning)
    typer.echo(str(out))
