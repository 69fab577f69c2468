"""The command line of dptrain. Each command parses, calls one function, and says where the result lies."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from dpcurate.errors import InputError
from dptrain import evaluate_cli, predict_cli
from dptrain.interruption import STOPPED, StoppedError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

INTERRUPTED = 130
"""What typer exits with, and without a word, after Ctrl-C."""


@app.callback()
def commands() -> None:
    """Train orientation networks on datasets of dpcurate."""


@app.command()
def run(
    model: Annotated[
        str | None,
        typer.Option(
            help="cnn (the default), densenet121, swin-tiny or swin-tiny-adjusted; each but cnn also with -pretrained."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="NAME, NAME@VERSION or a dataset's folder; without it the newest one.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of all datasets; without it DPCURATE_DATASETS or ./datasets.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Without it: what two CPU cores train within an hour.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Name of the run; without it DATASET-MODEL-SEED.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    seed: Annotated[int | None, typer.Option(min=0, help="Without it 0.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Patterns per step, over all processes.")] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Pixels across the network's input; without it 128. Half of it trains faster.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Pretrained weights (.safetensors) in place of timm's hub.")
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option("--input", help="polar (default), or cartesian."),
    ] = None,
    kernel: Annotated[int | None, typer.Option(help="Side of the cnn's convolutions: 3 (default), 5 or 7.")] = None,
    head: Annotated[str | None, typer.Option(help="density (default), grid, harmonics, rotation or euler.")] = None,
    max_degree: Annotated[
        int | None, typer.Option(min=0, help="Of heads density and harmonics; without it by symmetry, 8 for -3m.")
    ] = None,
    no_clamp: Annotated[
        bool, typer.Option("--no-clamp", help="The Euler head's angles may leave their ranges.")
    ] = False,
    loss: Annotated[
        str | None, typer.Option(help="plain (default), or truncated or laplace, on which wrong labels pull less.")
    ] = None,
    label_weights: Annotated[
        str | None, typer.Option(help="none (default), or confidence: sure labels count more.")
    ] = None,
    label_source: Annotated[str | None, typer.Option(help="label, or truth where it is known.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Draw the simulated training patterns anew in every epoch.")
    ] = False,
    learning_rate: Annotated[float | None, typer.Option(help="The highest; without it the model's own.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine (default), exponential or constant.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts in which a batch is shown; saves memory.")
    ] = None,
    ema_decay: Annotated[float | None, typer.Option(help="Of a moving average of the weights, such as 0.999.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a lower validation loss.")
    ] = None,
    confidence_order: Annotated[
        str | None, typer.Option(help="none, confident-first, or random: its control with the same pacing.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Send the numbers of each epoch to MLflow too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
) -> None:
    """Train a network. The defaults are the cnn and the newest dataset.

    On several processes: torchrun --nproc-per-node 2 -m dptrain.cli run

    Example: dptrain run --model cnn --dataset demo --epochs 20
    """
    from dptrain.start import start

    sections: dict[str, dict[str, object]] = {
        "network": {"kernel": kernel},
        "input": {"size": input_size, "frame": frame},
        "head": {"name": head, "loss": loss, "max_degree": max_degree, "clamp": False if no_clamp else None},
    }
    options = {
        **{name: {key: value for key, value in keys.items() if value is not None} for name, keys in sections.items()},
        "model": model,
        "epochs": epochs,
        "seed": seed,
        "batch_size": batch_size,
        "weights": str(weights.resolve()) if weights else None,
        "label_weights": label_weights,
        "label_source": label_source,
        "fresh": fresh or None,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "accumulate": accumulate,
        "ema_decay": ema_decay,
        "patience": patience,
        "confidence_order": confidence_order,
        "precision": precision,
        "compile": compiled or None,
    }
    folder = start(
        options, dataset=dataset, root=root, name=name, runs_dir=runs, device=device, resume=resume, mlflow=mlflow
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun numbers its processes
        typer.echo(folder)


evaluate_cli.register(app)
predict_cli.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what is wrong with the input is one sentence and exit code 2."""
    # OpenMP's threads shall sleep while they wait: spinning made training five times slower on two busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not os.environ.get("DPCURATE_WARNINGS"):
        warnings.simplefilter("ignore")
    try:
        app(arguments)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except StoppedError as stop:
        typer.echo(f"{stop}; saved, goes on with the same command and --resume", err=True)
        sys.exit(STOPPED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("interrupted; a run goes on with the same command and --resume", err=True)
        raise


if __name__ == "__main__":
    main()
