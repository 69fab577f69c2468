"""The commands of studies: label-quality, architectures, choices, hyperparameters, conditions; see `predict_cli`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dptrain.extras import require

if TYPE_CHECKING:
    from dptrain.study_plan import Study

study_app = typer.Typer(no_args_is_help=True, help="Studies over many runs.")

Indexes = Annotated[list[Path], typer.Argument(help="Index folders of scans whose exact truth is known.")]
Tests = Annotated[
    list[Path] | None, typer.Option("--test", help="Index folder of a scan with truth that is judged on only; again.")
]
Out = Annotated[Path, typer.Option(help="Folder of the study; the same one goes on.")]
Quick = Annotated[bool, typer.Option("--quick", help="A first look: 2 cores, less than 20 minutes.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="Some hours of a few cores; without it and --quick: for a GPU.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Each is another split, sample and network; default 3.")]
Simulated = Annotated[int | None, typer.Option(min=20, help="Simulated patterns added to datasets.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimisation steps of every run.")]
Processes = Annotated[int, typer.Option(min=1, help="Of this machine; on others give the same command.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@study_app.callback()
def studies() -> None:
    """Studies over many runs; interrupted, the same command goes on, and many processes may give it at once."""


@study_app.command("label-quality")
def label_quality(
    indexes: Indexes,
    test: Tests = None,
    out: Out = Path("study"),
    quick: Quick = False,
    cpu: Cpu = False,
    seeds: Seeds = None,
    simulated: Simulated = None,
    steps: Steps = None,
    processes: Processes = 1,
    device: Device = "auto",
) -> None:
    """Measure how accuracy depends on label quality.

    Example: dptrain study label-quality demo.index --quick --out study
    """
    changes = {"seeds": seeds, "simulated": simulated, "steps": steps}
    _run("label-quality", indexes, test, out, quick, cpu, changes, processes, device)


@study_app.command("architectures")
def architectures(
    indexes: Indexes,
    test: Tests = None,
    out: Out = Path("study"),
    models: Annotated[str | None, typer.Option(help="Names with commas between; default: the preset's.")] = None,
    quick: Quick = False,
    cpu: Cpu = False,
    seeds: Seeds = None,
    simulated: Simulated = None,
    steps: Steps = None,
    processes: Processes = 1,
    device: Device = "auto",
) -> None:
    """Compare networks on the same data, each shown as many patterns.

    Example: dptrain study architectures demo.index --quick --models cnn,densenet121 --out study
    """
    changes = {"seeds": seeds, "simulated": simulated, "steps": steps}
    names = tuple(models.split(",")) if models else None
    _run("architectures", indexes, test, out, quick, cpu, changes | {"models": names}, processes, device)


@study_app.command("choices")
def choices(
    indexes: Indexes,
    test: Tests = None,
    out: Out = Path("study"),
    choose: Annotated[
        str | None, typer.Option("--choices", help="Names with commas between; default: the preset's.")
    ] = None,
    quick: Quick = False,
    cpu: Cpu = False,
    seeds: Seeds = None,
    simulated: Simulated = None,
    steps: Steps = None,
    processes: Processes = 1,
    device: Device = "auto",
) -> None:
    """Compare choices of training one at a time: heads, kernels, schedules, batch sizes, order, output clamping.

    Example: dptrain study choices demo.index --quick --out choices
    """
    changes = {"seeds": seeds, "simulated": simulated, "steps": steps}
    names = tuple(choose.split(",")) if choose else None
    _run("choices", indexes, test, out, quick, cpu, changes | {"choices": names}, processes, device)


@study_app.command("hyperparameters")
def hyperparameters(
    indexes: Indexes,
    test: Tests = None,
    out: Out = Path("study"),
    quick: Quick = False,
    cpu: Cpu = False,
    trials: Annotated[int | None, typer.Option(min=1, help="Choices that are tried.")] = None,
    seeds: Seeds = None,
    simulated: Simulated = None,
    steps: Steps = None,
    device: Device = "auto",
) -> None:
    """Search for good hyperparameters with Optuna; give the command several times for several workers.

    Example: dptrain study hyperparameters demo.index --quick --trials 8 --out search
    """
    require("study", "hyperspy", "pyxem", "orix")
    from dptrain.study_plan import chosen_protocol
    from dptrain.study_search import run_search

    changes = {"seeds": seeds, "simulated": simulated, "steps": steps, "trials": trials}
    protocol = chosen_protocol("hyperparameters", quick=quick, cpu=cpu, changes=changes)
    typer.echo(str(run_search(indexes, protocol, out=out, tests=test or [], device=device)))


@study_app.command("conditions")
def conditions(
    phase: Annotated[Path, typer.Argument(help="CIF file of the crystal.")],
    network: Annotated[list[Path] | None, typer.Option(help="Folder of a finished run; again.")] = None,
    out: Out = Path("study"),
    quick: Quick = False,
    cpu: Cpu = False,
    device: Device = "auto",
) -> None:
    """Measure accuracy against thickness, dose, precession, scale error, tilts and overlap, on simulated patterns.

    Example: dptrain study conditions datasets/phases/LiNiO2.cif --network runs/demo --quick --out conditions
    """
    require("study", "hyperspy", "pyxem", "orix")
    from dptrain.study_conditions import conditions_protocol, run_conditions

    protocol = conditions_protocol(quick=quick, cpu=cpu)
    typer.echo(str(run_conditions(phase, protocol, out=out, networks=network or [], device=device)))


def _run(
    study: "Study",
    indexes: list[Path],
    tests: list[Path] | None,
    out: Path,
    quick: bool,
    cpu: bool,
    changes: Mapping[str, object],
    processes: int,
    device: str,
) -> None:
    """Run a study of the chosen preset with the ``changes`` that were given."""
    require("study", "hyperspy", "pyxem", "orix")
    from dptrain.study import run_study
    from dptrain.study_plan import chosen_protocol

    protocol = chosen_protocol(study, quick=quick, cpu=cpu, changes=changes)
    typer.echo(str(run_study(indexes, protocol, out=out, tests=tests or [], processes=processes, device=device)))
