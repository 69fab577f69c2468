"""The commands that simulate: ``dpcurate simulate`` and ``dpcurate simulate-scan``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dpcurate.errors import InputError


def simulate_command(
    phase: Annotated[list[Path] | None, typer.Option(help="CIF file; give it again for each phase.")] = None,
    like: Annotated[Path | None, typer.Option(help="Index folder or scan in whose image to simulate.")] = None,
    number: Annotated[int, typer.Option(min=1, help="How many patterns.")] = 1000,
    name: Annotated[str, typer.Option(help="Of the dataset.")] = "simulated",
    pixels: Annotated[int | None, typer.Option(help="Of the detector, along each side; default: 128.")] = None,
    scale: Annotated[float | None, typer.Option(help="1/Å per detector pixel; default: 0.021.")] = None,
    beam_energy: Annotated[float | None, typer.Option(help="keV; default: 200.")] = None,
    precession: Annotated[float | None, typer.Option(help="Half-angle in degrees; default: 0.7.")] = None,
    thickness: Annotated[str | None, typer.Option(help="Å, LOW,HIGH; default: 100,800.")] = None,
    dose: Annotated[str | None, typer.Option(help="Electrons a pattern, LOW,HIGH; default: 5000,20000.")] = None,
    physics: Annotated[str | None, typer.Option(help="dynamical (Bloch waves; default) or kinematical.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe; default: dpcurate.toml here, if any.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same patterns.")] = 0,
    root: Annotated[
        Path | None, typer.Option(help="Folder of datasets; default: $DPCURATE_DATASETS or datasets.")
    ] = None,
    patterns_per_shard: Annotated[
        int | None, typer.Option(min=1, max=1 << 20, help="Patterns in one file; default: 1024.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Write a dataset of simulated patterns with exact labels.

    Example: dpcurate simulate --phase datasets/phases/LiNiO2.cif --number 500 --name lnosim
    """
    from dpcurate.api import simulate
    from dpcurate.recipe import read_recipe
    from dpcurate.simulation_recipe import SimulatingRecipe

    measured: dict[str, object] = {"pixels": pixels, "thickness": thickness, "dose": dose}
    stated: dict[str, object] = {
        "phase": phase,
        "scale": scale,
        "beam-energy": beam_energy,
        "precession": precession,
    }
    if like is not None:
        _refuse_with_like(like, measured | (stated if (like / "index.json").is_file() else {}))
    choices = read_recipe(
        SimulatingRecipe,
        recipe,
        phases=[str(path) for path in phase] if phase else None,
        scan__scale_inv_angstrom=scale,
        scan__beam_energy_kev=beam_energy,
        scan__precession_deg=precession,
        simulation__physics=physics,
        simulation__sample__thickness_angstrom=parse_range("--thickness", thickness),
        simulation__sample__instrument__dose_electrons=parse_range("--dose", dose),
        virtual_scan__pixels=pixels,
    )
    folder = simulate(
        number,
        choices,
        like=like,
        name=name,
        seed=seed,
        root=root,
        patterns_per_shard=patterns_per_shard,
        device=_usable(device),
    )
    typer.echo(str(folder))


def simulate_scan_command(
    out: Annotated[Path, typer.Argument(help="The scan to write, NAME.hspy; its truth goes beside it.")],
    phase: Annotated[list[Path] | None, typer.Option(help="CIF file; give it again for each phase.")] = None,
    microstructure: Annotated[Path | None, typer.Option(help="Orientation map: .ang, .ctf or orix's .h5.")] = None,
    phase_name: Annotated[list[str] | None, typer.Option(help="What the map calls the phases, in their order.")] = None,
    grains: Annotated[int | None, typer.Option(help="Random grains where no map is given; default: 36.")] = None,
    rows: Annotated[int | None, typer.Option(help="Default: 64, or as the map.")] = None,
    columns: Annotated[int | None, typer.Option(help="Default: 64, or as the map.")] = None,
    pixels: Annotated[int | None, typer.Option(help="Of the detector, along each side; default: 128.")] = None,
    scale: Annotated[float | None, typer.Option(help="1/Å per detector pixel; default: 0.021.")] = None,
    beam_energy: Annotated[float | None, typer.Option(help="keV; default: 200.")] = None,
    precession: Annotated[float | None, typer.Option(help="Half-angle in degrees; default: 0.7.")] = None,
    thickness: Annotated[str | None, typer.Option(help="Å, LOW,HIGH; default: 200,400.")] = None,
    dose: Annotated[float | None, typer.Option(help="Electrons a pattern; default: drawn from the recipe.")] = None,
    twins: Annotated[float | None, typer.Option(help="Share of boundaries that are twins.")] = None,
    small_angle: Annotated[float | None, typer.Option(help="Share of boundaries of 2 to 10 degrees.")] = None,
    spread: Annotated[float | None, typer.Option(help="Turns inside a grain, degrees from its mean.")] = None,
    gradient: Annotated[float | None, typer.Option(help="Turn across a grain, degrees in 100 pixels.")] = None,
    physics: Annotated[str | None, typer.Option(help="dynamical (Bloch waves; default) or kinematical.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe; default: dpcurate.toml here, if any.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same scan.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace a scan that is there.")] = False,
) -> None:
    """Write a virtual scan of a polycrystal, with its exact truth beside it.

    Example: dpcurate simulate-scan virtual.hspy --phase datasets/phases/LiNiO2.cif --rows 40 --columns 40 --grains 14
    """
    from dpcurate.phases import read_cif
    from dpcurate.recipe import read_recipe
    from dpcurate.simulation_recipe import USUAL_STEP_NM, SimulatingRecipe, geometry_of, microstructure_of
    from dpcurate.virtual_scan import simulate_scan

    random_grains = {
        "grains": grains,
        "twins": twins,
        "small-angle": small_angle,
        "spread": spread,
        "gradient": gradient,
    }
    _refuse_together(microstructure, random_grains)
    choices = read_recipe(
        SimulatingRecipe,
        recipe,
        phases=[str(path) for path in phase] if phase else None,
        scan__scale_inv_angstrom=scale,
        scan__beam_energy_kev=beam_energy,
        scan__precession_deg=precession,
        simulation__physics=physics,
        simulation__sample__instrument__dose_electrons=None if dose is None else (dose, dose),
        virtual_scan__rows=rows,
        virtual_scan__columns=columns,
        virtual_scan__pixels=pixels,
        virtual_scan__n_grains=grains,
        virtual_scan__microstructure=None if microstructure is None else str(microstructure),
        virtual_scan__phase_names=phase_name or None,
        virtual_scan__specimen__thickness_limits_angstrom=parse_range("--thickness", thickness),
        virtual_scan__grain_model__twin_share=twins,
        virtual_scan__grain_model__small_angle_share=small_angle,
        virtual_scan__grain_model__spread_deg=spread,
        virtual_scan__grain_model__gradient_deg_per_100_pixels=gradient,
    )
    phases = [read_cif(path) for path in choices.phases]
    structure = microstructure_of(choices, phases, seed=seed)
    path = simulate_scan(
        structure,
        phases,
        choices.simulation,
        geometry_of(choices),
        seed=seed,
        out=out,
        step_nm=choices.scan.step_nm or USUAL_STEP_NM,
        overwrite=overwrite,
        device=_usable(device),
        origin=choices.virtual_scan.model_dump(mode="json"),
    )
    shape, grain = structure.shape, structure.grain
    typer.echo(f"{shape[0]} x {shape[1]} patterns, {len(set(grain[grain >= 0].tolist()))} grains; truth beside it")
    typer.echo(str(path))


def _refuse_with_like(like: Path, known: Mapping[str, object]) -> None:
    """InputError for options whose values come from what is to be imitated."""
    given = [f"--{name}" for name, value in known.items() if value is not None]
    if given:
        raise InputError(f"{given[0]}: {like} tells that by itself. Leave out {given[0]} or --like.")


def _refuse_together(microstructure: Path | None, random_grains: Mapping[str, object]) -> None:
    """InputError for options of random grains where the grains are those of a map."""
    given = [f"--{name}" for name, value in random_grains.items() if value is not None]
    if microstructure is not None and given:
        raise InputError(
            f"{given[0]} is about random grains, but --microstructure gives the grains. Give one of the two."
        )


def _usable(device: str) -> str:
    """The device; InputError where torch has none of that name."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not usable here ({str(error).splitlines()[0][:80]}). Try cpu.") from error
    return device


def parse_range(option: str, text: str | None) -> tuple[float, float] | None:
    """Return (low, high) from an option LOW,HIGH, or twice one number; None if it was not given."""
    if text is None:
        return None
    try:
        low, _, high = text.partition(",")
        return float(low), float(high or low)
    except ValueError as error:
        raise InputError(f"{option} {text}: expected LOW,HIGH such as 150,500.") from error
