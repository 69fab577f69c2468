"""A study run, or what is missing of it: by one process or many, each taking the next trial that nobody has."""

import multiprocessing
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dptrain.launch import choose_device
from dptrain.study_data import HELD_OUT, Division, divide, groups
from dptrain.study_folder import (
    FAILURE,
    RESULT,
    Subject,
    failure_of,
    locked,
    make_folder,
    open_folder,
    read_study,
    truth_of,
    unfinished,
    write_json,
    write_results,
)
from dptrain.study_plan import STUDY_FILE, Protocol, Trial, choose_seeds, choose_thresholds, trials
from dptrain.study_trial import label_errors_deg, run_trial

FAILURES = (InputError, ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError, MemoryError)
"""What one trial may fail with while the others go on; torch's errors are RuntimeErrors."""


WRONG_DEG = 5.0
"""A label farther off is called wrong where grains are counted."""

MOST = 0.9
"""A grain that loses more than this share of its pixels is as good as gone."""


@dataclass(frozen=True)
class Opened:
    """A study whose folder is ready: its scans, how each seed divides them, its trials."""

    out: Path
    protocol: Protocol
    subjects: tuple[Subject, ...]
    tests: tuple[Subject, ...]
    parts: dict[int, list[Division]]
    trials: tuple[Trial, ...]
    thresholds: tuple[float, ...]


def run_study(
    indexes: Sequence[str | Path],
    protocol: Protocol,
    *,
    out: Path,
    tests: Sequence[str | Path] = (),
    device: str = "auto",
    processes: int = 1,
) -> Path:
    """Run the study, or what is missing of it, into ``out``; returns it.

    Parameters
    ----------
    indexes, tests
        Index folders of scans whose exact truth is known: to learn from, and to be judged on only.
    protocol
        What to train, on what, for how long.
    out, device
        Folder of the study; one of ``launch.DEVICES``.
    processes
        How many of this machine take part. Any number of others, on any machine, may be started with the same words.

    Raises
    ------
    InputError
        No index, or its scan has no truth; too few labels or grains; ``out`` is another study; a scan or an index
        changed.
    """
    opened = open_study(indexes, protocol, out=out, tests=tests, device=device)
    if processes == 1:
        work(opened, device=device)
        return out
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    names = ([str(one) for one in indexes], [str(one) for one in tests])
    workers = [context.Process(target=_worker, args=(names, protocol, out, device, threads)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.terminate()
    write_results(out, opened.trials)
    return out


def open_study(
    indexes: Sequence[str | Path], protocol: Protocol, *, out: Path, tests: Sequence[str | Path], device: str
) -> Opened:
    """The study with its plan fixed: made new, or found as it was. Raises as ``run_study``."""
    choose_device(device)
    if not indexes:
        raise InputError("No index given; name at least one folder that 'dpcurate index' has written.")
    sources, others = ([read_index(Path(folder)) for folder in some] for some in (indexes, tests))
    subjects, judged = (tuple(Subject(index, truth_of(index)) for index in some) for some in (sources, others))
    open_folder(out, sources, protocol, tests=others)

    def parts_of(seed: int) -> list[Division]:
        return [divide(one, seed=seed, share=protocol.pixels_held_out) for one in subjects]

    def held_out_grains(seed: int) -> int:
        parts = zip(subjects, parts_of(seed), strict=True)
        return sum(len(np.unique(one.truth.grain[groups(one, part)[HELD_OUT]])) for one, part in parts)

    record = read_study(out)
    if "trials" not in record:
        seeds = choose_seeds(held_out_grains, n=protocol.seeds)
        in_training = [[(part.split == 0) & ~part.held for part in parts_of(seed)] for seed in seeds]
        thresholds, why = choose_thresholds(sources, in_training, wanted=protocol.thresholds)
        planned = trials(protocol, thresholds, seeds)
        record |= {"seeds": seeds, "thresholds": thresholds, "why": why}
        record["trials"] = [trial.model_dump(mode="json") for trial in planned]
        write_json(out / STUDY_FILE, record)
    if "labels" not in record:
        record["labels"] = " ".join(_where_wrong(one, record["thresholds"]) for one in subjects)
        write_json(out / STUDY_FILE, record)
    parts = {seed: parts_of(seed) for seed in record["seeds"]}
    all_trials = tuple(Trial.model_validate(trial) for trial in record["trials"])
    return Opened(out, protocol, subjects, judged, parts, all_trials, tuple(record["thresholds"]))


def _where_wrong(subject: Subject, thresholds: Sequence[float]) -> str:
    """Whether wrong labels of a scan come as whole grains, and whether thresholds take whole grains away."""
    grain, wrong = subject.truth.grain, label_errors_deg(subject) > WRONG_DEG
    names = np.unique(grain)
    bad = names[[bool(wrong[grain == name].mean() > 0.5) for name in names]]
    share = wrong[np.isin(grain, bad)].sum() / max(wrong.sum(), 1)
    kept = subject.index.confidence >= max(thresholds)
    gone = sum(kept[grain == name].mean() < 1 - MOST for name in names)
    return (
        f"{subject.name}: {wrong.mean():.1%} of all labels are off by more than {WRONG_DEG:g} degrees; {share:.0%} of "
        f"these lie in the {len(bad)} of {len(names)} grains that are wrong for the most part. Above confidence "
        f"{max(thresholds):g}, {gone} grains lose more than {MOST:.0%} of their pixels."
    )


def work(opened: Opened, *, device: str) -> None:
    """Run one trial after another that is not done and that no other process has; failures are recorded."""
    for trial in tqdm(opened.trials, desc="study", unit="run"):
        take(opened, trial, device=device)
        write_results(opened.out, opened.trials)
    waiting = unfinished(opened.out, [trial.name for trial in opened.trials])
    for name, why in waiting.items():
        words = "another process has it, or it was interrupted" if why == "missing" else f"failed: {why}"
        tqdm.write(f"not done: {name}: {words}")


def take(opened: Opened, trial: Trial, *, device: str) -> None:
    """Run a trial unless it is done or another process has it; what it fails with is written to its folder."""
    run_dir = opened.out / "runs" / trial.name
    with locked(opened.out / "locks" / f"{trial.name}.lock", wait=False) as mine:
        if not mine or (run_dir / RESULT).is_file():
            return
        try:
            run_trial(
                trial,
                opened.protocol,
                opened.subjects,
                opened.tests,
                parts=opened.parts[trial.seed],
                out=opened.out,
                device=device,
            )
        except FAILURES as error:
            make_folder(run_dir)
            words = f"{type(error).__name__}: {error}"
            write_json(run_dir / FAILURE, {"error": words, "traceback": traceback.format_exc()})
            tqdm.write(f"{trial.name} failed, and the rest goes on: {words}")
            return
        if failure_of(opened.out, trial.name):
            (run_dir / FAILURE).unlink()


def _worker(names: tuple[list[str], list[str]], protocol: Protocol, out: Path, device: str, threads: int) -> None:
    """One of several processes of a study."""
    torch.set_num_threads(threads)
    work(open_study(names[0], protocol, out=out, tests=names[1], device=device), device=device)
