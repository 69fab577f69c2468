"""A label-quality study: the same network on labels of rising quality, judged by the exact truth on held-out grains."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.crystal_maps import read_index
from dpcurate.labels import pixel_splits
from dptrain.launch import choose_device
from dptrain.study_folder import (
    RESULT,
    Subject,
    open_folder,
    read_study,
    split_by_truth,
    truth_of,
    write_json,
    write_results,
)
from dptrain.study_plan import STUDY_FILE, Protocol, choose_seeds, choose_thresholds, trials
from dptrain.study_trial import held_out, run_trial, simulated


def run_study(indexes: Sequence[str | Path], protocol: Protocol, *, out: Path, device: str = "auto") -> Path:
    """Run the study, or what is missing of it, into ``out``; returns it.

    Parameters
    ----------
    indexes
        Index folders of scans whose exact truth is known.
    protocol
        What to train, on what, for how long.
    out, device
        Folder of the study; one of ``launch.DEVICES``.

    Raises
    ------
    InputError
        No index, or its scan has no truth; too few labels or grains; ``out`` is another study; an index changed.
    """
    choose_device(device)
    sources = [read_index(folder) for folder in indexes]
    truths = [truth_of(index) for index in sources]
    open_folder(out, sources, protocol)
    subjects = [
        Subject(split_by_truth(index, truth, out=out), truth) for index, truth in zip(sources, truths, strict=True)
    ]
    seeds = choose_seeds(lambda seed: _held_out_grains(subjects, seed), n=protocol.seeds)
    splits = {seed: _splits(subjects, seed) for seed in seeds}
    in_training = [[split == 0 for split in splits[seed]] for seed in seeds]
    thresholds, why = choose_thresholds([one.index for one in subjects], in_training, wanted=protocol.thresholds)
    record = read_study(out) | {"seeds": seeds, "thresholds": thresholds, "why": why}
    planned = trials(thresholds, seeds)
    record["trials"] = [trial.name for trial in planned]
    write_json(out / STUDY_FILE, record)
    simulate = functools.cache(simulated)
    for trial in tqdm(planned, desc="study", unit="run"):
        if not (out / "runs" / trial.name / RESULT).is_file():
            run_trial(trial, protocol, subjects, split=splits[trial.seed], out=out, device=device, cache=simulate)
            write_results(out, planned)
    write_results(out, planned)
    return out


def _splits(subjects: Sequence[Subject], seed: int) -> list[NDArray[np.uint8]]:
    return [pixel_splits(one.index, seed=seed).reshape(one.index.shape) for one in subjects]


def _held_out_grains(subjects: Sequence[Subject], seed: int) -> int:
    parts = zip(subjects, _splits(subjects, seed), strict=True)
    return sum(len(np.unique(one.truth.grain[held_out(one, split)])) for one, split in parts)
