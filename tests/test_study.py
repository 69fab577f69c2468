import csv
import json
import shutil

import numpy as np
import pytest

from dpcurate.crystal_maps import read_index, read_truth
from dpcurate.errors import InputError
from dpcurate.labels import pixel_splits
from dpcurate.store import list_datasets
from dptrain.reports import write_reports
from dptrain.study import run_study
from dptrain.study_numbers import Chance, read_results, verdicts
from dptrain.study_plan import Protocol, choose_seeds, choose_thresholds, epochs_for, trials
from dptrain.study_trial import HELD_OUT
from tests.small_scan import scan_of, small_index
from tests.test_report import Page

PROTOCOL = Protocol(
    quick=True, seeds=1, thresholds=(0.0, 0.8), simulated=20, steps=4, batch_size=16, input_size=32, max_cells=60
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def study(index, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "study"
    return run_study([index], PROTOCOL, out=out, device="cpu")


@pytest.fixture(scope="module")
def rows(study):
    with (study / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_threshold_has_its_random_control_and_exact_labels():
    planned = trials((0.0, 0.5, 0.8, 0.9), (0, 1))
    assert len(planned) == len({trial.name for trial in planned}) == 2 * (4 + 3 + 4)
    assert not any(trial.kind == "random" and trial.min_confidence == 0 for trial in planned)


def test_runs_take_equally_many_steps_to_within_half_an_epoch():
    protocol = Protocol(steps=400)
    for n_train in (64, 100, 700, 5000):
        epochs, steps = epochs_for(protocol, n_train=n_train)
        per_epoch = n_train // 64
        assert steps == epochs * per_epoch
        assert abs(steps - 400) <= per_epoch / 2


def test_purity_is_that_of_the_labels_that_were_trained_on(rows):
    purity = {(row["kind"], float(row["min_confidence"])): float(row["label_purity"]) for row in rows}
    assert purity["threshold", 0.8] == purity["exact", 0.0] == purity["exact", 0.8] == 1
    assert 0.7 < purity["threshold", 0.0] < 0.9
    assert 0.6 < purity["random", 0.8] < 0.95


def test_the_control_is_drawn_from_all_labels_and_as_large_as_the_threshold_leaves(study):
    seed = json.loads((study / "study.json").read_text(encoding="utf-8"))["seeds"][0]
    kept = {
        entry.manifest.name: (entry.manifest.counts["kept"], entry.manifest.recipe["min_confidence"])
        for entry in list_datasets(study / "datasets")
    }
    assert (
        kept[f"threshold-0.8-seed{seed}"][0]
        == kept[f"random-0.8-seed{seed}"][0]
        < kept[f"threshold-0-seed{seed}"][0]
        == 144
    )
    assert kept[f"random-0.8-seed{seed}"][1] == 0


def test_held_out_pixels_are_of_true_grains_that_no_run_has_trained_on(study, index, rows):
    split_index = read_index(next((study / "indexes").iterdir()))
    truth = read_truth(scan_of(index))
    np.testing.assert_array_equal(split_index.grain_id, truth.grain)
    seed = int(rows[0]["seed"])
    split = pixel_splits(split_index, seed=seed).reshape(12, 12)
    held = (split == 2) & ~np.isin(truth.grain, truth.grain[split == 0])
    told = {(int(row["n_pixels"]), int(row["n_grains"])) for row in rows if row["pixels"] == HELD_OUT}
    assert told == {(held.sum(), len(np.unique(truth.grain[held])))}


def test_called_again_it_runs_only_what_is_missing(study, index):
    done = sorted((study / "runs").glob("*/trial.json"))
    assert len(done) == 5
    before = {path: path.stat().st_mtime_ns for path in done}
    table = (study / "results.csv").read_text(encoding="utf-8")
    shutil.rmtree(done[2].parent)
    run_study([index], PROTOCOL, out=study, device="cpu")
    changed = [path for path in done if path.stat().st_mtime_ns != before[path]]
    assert changed == [done[2]]
    assert (study / "results.csv").read_text(encoding="utf-8") == table


def test_another_protocol_or_a_changed_index_is_refused(study, index, tmp_path):
    with pytest.raises(InputError, match="other protocol"):
        run_study([index], PROTOCOL.model_copy(update={"steps": 5}), out=study, device="cpu")
    record = json.loads((study / "study.json").read_text(encoding="utf-8"))
    record["indexes"][0]["sha256"] = "0" * 64
    (tmp_path / "study.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match="other indexes"):
        run_study([index], PROTOCOL, out=tmp_path, device="cpu")


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


def test_the_page_shows_curves_numbers_and_that_one_seed_has_no_interval(study):
    page = write_reports([study])[0]
    content = Page(page)
    assert page == study / "report.html"
    assert page.stat().st_size < 5e6
    assert all(link.startswith("data:image/png;base64,") for link in content.links)
    assert len(content.images) == 8
    assert "One seed" in content.text
    assert "dptrain study label-quality" in content.text
    for row in read_results(study):
        assert f"{row.mean_deg:.1f}°" in content.text


def test_seeds_that_hold_out_enough_grains_are_taken_first():
    held = [1, 3, 0, 4, 2]
    assert choose_seeds(lambda seed: held[seed % 5], n=2) == (1, 3)
    assert choose_seeds(lambda seed: 2 if seed in (7, 9) else 1, n=2) == (7, 9)
    with pytest.raises(InputError, match="more grains"):
        choose_seeds(lambda seed: int(seed == 3), n=2)


def test_a_result_that_chance_explains_is_told_as_chance(study):
    results = read_results(study)
    text = " ".join(verdicts(results, Chance(mean_deg=66.6, sd_deg=1000.0)))
    assert text.count("no run can be told from a random guess") == 2
    assert "against" not in text


def test_a_setting_is_called_better_only_when_the_seeds_agree(study):
    results = read_results(study)
    shifted = [
        type(one)(**{**vars(one), "seed": one.seed + 1, "mean_deg": one.mean_deg + (5 if one.kind == "exact" else 0)})
        for one in results
    ]
    said = " ".join(verdicts([*results, *shifted], None))
    assert "Two seeds: means and single values are shown, no interval" in said
    gain = [
        [
            next(one.mean_deg for one in some if (one.kind, one.min_confidence, one.pixels) == (kind, 0.8, HELD_OUT))
            for kind in ("threshold", "random")
        ]
        for some in (results, shifted)
    ]
    better = all(threshold < control for threshold, control in gain)
    assert ("better with every seed" in said) or not better


def test_an_unfinished_study_names_the_runs_that_are_missing(study, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(study, part)
    gone = next((part / "runs").glob("exact-0-*"))
    (gone / "trial.json").unlink()
    with pytest.raises(InputError, match=rf"1 of 5 runs are missing \({gone.name}\)"):
        write_reports([part])
