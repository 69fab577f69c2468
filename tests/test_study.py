import csv
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dpcurate.truth import read_truth
from dptrain.cli import app
from dptrain.runs import requested_config
from dptrain.study import open_study, run_study, take
from dptrain.study_choices import CHOICES, COMPARED
from dptrain.study_data import HELD_OUT, HELD_PIXELS, TRAINING, divide, groups
from dptrain.study_folder import RESULT, Subject, locked, truth_of, unfinished
from dptrain.study_plan import (
    Protocol,
    Trial,
    choose_seeds,
    choose_thresholds,
    chosen_protocol,
    epochs_for,
    trials,
)
from tests.small_scan import scan_of, small_index

PROTOCOL = Protocol(
    preset="quick",
    seeds=1,
    thresholds=(0.0, 0.8),
    corruptions=("half turn",),
    rates=(0.5,),
    simulated=20,
    steps=4,
    batch_size=16,
    options={"input": {"size": 32}, "head": {"max_cells": 60}},
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def study(index, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "study"
    return run_study([index], PROTOCOL, out=out, tests=[index], device="cpu")


@pytest.fixture(scope="module")
def rows(study):
    with (study / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def subject(index):
    result = read_index(index)
    return Subject(result, truth_of(result))


def test_every_threshold_has_its_random_control_and_exact_labels():
    planned = trials(Protocol(thresholds=(0.0, 0.5, 0.8, 0.9), rates=(0.5,)), (0.0, 0.5, 0.8, 0.9), (0, 1))
    assert len(planned) == len({trial.name for trial in planned}) == 2 * (4 + 3 + 4 + 4 + 2)
    assert not any(trial.kind == "random" and trial.min_confidence == 0 for trial in planned)


def test_networks_are_compared_on_the_same_labels():
    protocol = chosen_protocol("architectures", quick=True, cpu=False, changes={"models": ("cnn", "swin-tiny")})
    planned = trials(protocol, (0.0, 0.5, 0.8), (0, 1))
    assert [(trial.model, trial.seed) for trial in planned] == [
        ("cnn", 0),
        ("cnn", 1),
        ("swin-tiny", 0),
        ("swin-tiny", 1),
    ]
    assert {trial.min_confidence for trial in planned} == {0.8}


def test_choices_change_one_thing_each_on_the_same_labels():
    protocol = chosen_protocol("choices", quick=True, cpu=False, changes={"choices": ("usual", "kernel 5")})
    planned = trials(protocol, (0.0, 0.5, 0.9), (0, 1))
    assert [trial.name for trial in planned] == [
        *("setting-usual-seed0", "setting-usual-seed1"),
        *("setting-kernel-5-seed0", "setting-kernel-5-seed1"),
    ]
    assert planned[2].options == {"network": {"kernel": 5}}
    assert {trial.min_confidence for trial in planned} == {0.5}, "the highest up to 0.8"
    with pytest.raises(InputError, match="--choices kernel 9: is not known"):
        chosen_protocol("choices", quick=True, cpu=False, changes={"choices": ("kernel 9",)})
    for name, options in CHOICES.items():
        assert (requested_config("cnn", options) == requested_config("cnn", {})) == (name == "usual")
    assert {name for pairs in COMPARED.values() for pair in pairs for name in pair} <= set(CHOICES)


def test_a_preset_that_is_not_one_and_an_unknown_network_are_refused():
    with pytest.raises(InputError, match="two presets"):
        chosen_protocol("label-quality", quick=True, cpu=True, changes={})
    with pytest.raises(InputError, match="resnet is not known"):
        chosen_protocol("architectures", quick=True, cpu=False, changes={"models": ("resnet",)})


def test_runs_show_equally_many_patterns_to_within_half_an_epoch():
    protocol = Protocol(steps=400)
    for n_train in (64, 100, 700, 5000):
        for batch in (16, 64):
            epochs, steps = epochs_for(protocol, n_train=n_train, batch_size=batch)
            per_epoch = n_train // batch
            assert steps == epochs * per_epoch
            assert abs(steps * batch - 400 * 64) <= per_epoch * batch / 2


def test_purity_is_that_of_the_labels_that_were_trained_on(rows):
    purity = {(row["kind"], float(row["min_confidence"])): float(row["label_purity"]) for row in rows}
    assert purity["threshold", 0.8] == purity["exact", 0.0] == purity["exact", 0.8] == 1
    assert 0.7 < purity["threshold", 0.0] < 0.9
    assert 0.6 < purity["random", 0.8] < 0.95
    assert 0.35 < purity["corrupted", 0.0] < 0.65


def test_what_is_judged_as_new_shares_no_grain_and_held_out_pixels_no_pixel_with_training(subject):
    for seed in range(5):
        part = divide(subject, seed=seed, share=0.2)
        found = groups(subject, part)
        grain = subject.truth.grain
        assert not set(grain[found[HELD_OUT]]) & set(grain[found[TRAINING]])
        assert not (found[HELD_PIXELS] & found[TRAINING]).any()
        assert set(grain[found[HELD_PIXELS]]) <= set(grain[part.split == 0])
        assert found[HELD_PIXELS].any()


def test_no_run_trains_on_a_held_out_pixel(study, index):
    record = json.loads((study / "study.json").read_text(encoding="utf-8"))
    subject = Subject(read_index(index), read_truth(scan_of(index)))
    held = divide(subject, seed=record["seeds"][0], share=PROTOCOL.pixels_held_out).held
    made = [read_index(path) for path in (study / "indexes").glob("*.index")]
    assert len(made) == 2
    for one in made:
        np.testing.assert_array_equal(one.phase_id < 0, held)
        np.testing.assert_array_equal(one.grain_id, subject.truth.grain)


def test_simulated_patterns_alone_and_scan_patterns_alone_are_what_they_say(study):
    counts = {
        kind: json.loads(next((study / "runs").glob(f"{kind}-seed*/{RESULT}")).read_text())["facts"]
        for kind in ("simulated", "scan-only")
    }
    assert counts["simulated"]["n_labels"] == 0
    assert 0 < counts["simulated"]["n_train"] < PROTOCOL.simulated
    assert counts["scan-only"]["n_labels"] == counts["scan-only"]["n_train"] > 0


def test_scores_follow_from_the_errors_that_are_kept(study, rows):
    for row in rows:
        with np.load(study / "runs" / row["trial"] / "errors.npz") as file:
            error = file[f"{row['pixels']}/error"]
        assert len(error) == int(row["n_pixels"])
        assert float(row["median_deg"]) == pytest.approx(np.median(error))
        assert float(row["p95_deg"]) == pytest.approx(np.quantile(error, 0.95))
        assert float(row["within_2_deg"]) == pytest.approx(np.mean(error <= 2))


def test_called_again_it_runs_only_what_is_missing(study, index):
    done = sorted((study / "runs").glob(f"*/{RESULT}"))
    assert len(done) == 2 + 1 + 2 + 1 + 2
    before = {path: path.stat().st_mtime_ns for path in done}
    scores = json.loads(done[2].read_text(encoding="utf-8"))["scores"]
    shutil.rmtree(done[2].parent)
    run_study([index], PROTOCOL, out=study, tests=[index], device="cpu")
    changed = [path for path in done if path.stat().st_mtime_ns != before[path]]
    assert changed == [done[2]]
    assert json.loads(done[2].read_text(encoding="utf-8"))["scores"] == scores


def test_a_trial_that_fails_is_recorded_the_rest_goes_on_and_it_is_tried_again(study, index, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(study, part)
    opened = open_study([index], PROTOCOL, out=part, tests=[index], device="cpu")
    bad = opened.trials[0].model_copy(update={"options": {"learning_rate": -1.0}})
    shutil.rmtree(part / "runs" / bad.name)
    take(opened, bad, device="cpu")
    why = unfinished(part, [trial.name for trial in opened.trials])
    assert list(why) == [bad.name]
    assert "learning_rate" in why[bad.name]
    run_study([index], PROTOCOL, out=part, tests=[index], device="cpu")
    assert unfinished(part, [trial.name for trial in opened.trials]) == {}
    assert not (part / "runs" / bad.name / "failure.json").exists()


def test_a_trial_that_another_process_has_is_left_to_it(study, index, tmp_path):
    import subprocess
    import sys

    part = tmp_path / "part"
    shutil.copytree(study, part)
    opened = open_study([index], PROTOCOL, out=part, tests=[index], device="cpu")
    name = opened.trials[0].name
    (part / "runs" / name / RESULT).unlink()
    lock = part / "locks" / f"{name}.lock"
    hold = "import fcntl,sys; f=open(sys.argv[1],'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('mine',flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        take(opened, opened.trials[0], device="cpu")
        assert not (part / "runs" / name / RESULT).exists()
        other.kill()
    with locked(lock, wait=False) as mine:
        assert mine


def test_two_processes_share_the_trials_and_find_what_one_finds(study, index, tmp_path):
    out = run_study([index], PROTOCOL, out=tmp_path / "two", tests=[index], device="cpu", processes=2)
    made = {path.parent.name: json.loads(path.read_text())["scores"] for path in (out / "runs").glob(f"*/{RESULT}")}
    alone = {path.parent.name: json.loads(path.read_text())["scores"] for path in (study / "runs").glob(f"*/{RESULT}")}
    assert made.keys() == alone.keys()
    for name, scores in alone.items():
        for one, other in zip(scores, made[name], strict=True):
            assert one["mean_deg"] == pytest.approx(other["mean_deg"], abs=3)


def test_another_protocol_or_a_changed_index_is_refused(study, index, tmp_path):
    with pytest.raises(InputError, match="other protocol"):
        run_study([index], PROTOCOL.model_copy(update={"steps": 5}), out=study, tests=[index], device="cpu")
    with pytest.raises(InputError, match="other tests"):
        run_study([index], PROTOCOL, out=study, device="cpu")
    record = json.loads((study / "study.json").read_text(encoding="utf-8"))
    record["indexes"][0]["sha256"] = "0" * 64
    (tmp_path / "study.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match="other indexes"):
        run_study([index], PROTOCOL, out=tmp_path, tests=[index], device="cpu")


def test_a_scan_that_changed_since_it_was_indexed_is_refused(index, tmp_path):
    copy = tmp_path / "small.index"
    shutil.copytree(index, copy)
    for path in scan_of(index).parent.glob("small.*"):
        if path.is_file():
            shutil.copy(path, tmp_path / path.name)
    info = json.loads((copy / "index.json").read_text(encoding="utf-8"))
    info["scan"]["path"] = str(tmp_path / "small.hspy")
    (copy / "index.json").write_text(json.dumps(info), encoding="utf-8")
    with (tmp_path / "small.hspy").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(InputError, match="changed since"):
        run_study([copy], PROTOCOL, out=tmp_path / "study", device="cpu")


def test_a_study_needs_an_index_with_truth_and_a_folder_of_its_own(index, tmp_path):
    with pytest.raises(InputError, match="no index there"):
        run_study([tmp_path], PROTOCOL, out=tmp_path / "study", device="cpu")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not a study"):
        run_study([index], PROTOCOL, out=tmp_path, device="cpu")
    blind = tmp_path / "blind.index"
    shutil.copytree(index, blind)
    info = json.loads((blind / "index.json").read_text(encoding="utf-8"))
    info["scan"]["path"] = str(tmp_path / "blind.hspy")
    (blind / "index.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(InputError, match="no exact truth"):
        run_study([blind], PROTOCOL, out=tmp_path / "study", device="cpu")


def test_thresholds_that_leave_too_little_become_quantiles_and_say_so(index):
    result = read_index(index)
    everything = [[np.ones(result.shape, bool)]]
    assert choose_thresholds([result], everything, wanted=(0.0, 0.8))[0] == (0.0, 0.8)
    with pytest.raises(InputError, match="fewer than 40"):
        choose_thresholds([result], everything, wanted=(0.0, 0.99))


def test_seeds_that_hold_out_enough_grains_are_taken_first():
    held = [1, 3, 0, 4, 2]
    assert choose_seeds(lambda seed: held[seed % 5], n=2) == (1, 3)
    assert choose_seeds(lambda seed: 2 if seed in (7, 9) else 1, n=2) == (7, 9)
    with pytest.raises(InputError, match="more grains"):
        choose_seeds(lambda seed: int(seed == 3), n=2)


def test_names_of_trials_can_be_names_of_folders():
    trial = Trial(kind="corrupted", seed=3, corruption="whole grains", rate=0.25)
    assert trial.name == "corrupted-whole-grains-0.25-seed3"


def test_the_command_tells_its_options():
    shown = CliRunner().invoke(app, ["study", "label-quality", "--help"])
    assert shown.exit_code == 0
    assert "--quick" in shown.output
