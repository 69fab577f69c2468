import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg
from dpcurate.schema import Source
from dpcurate.store import open_dataset
from dptrain.boundaries import EXACT, FARTHEST_PX, LISTED, boundary_distance_px, grain_map
from dptrain.checkpoint import load_model, save_model
from dptrain.cli import main
from dptrain.compatible import check_reach, phase_numbers
from dptrain.config import HeadConfig
from dptrain.evaluate import EVERY, RECORD, TABLE, evaluate
from dptrain.evaluate_scores import METRICS, intervals, quantile_edges
from dptrain.heads import build_head
from dptrain.runs import open_run_dataset
from tests.conftest import CUBIC, TRIGONAL
from tests.small_scan import small_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def dataset(run):
    return open_run_dataset(load_model(run).config)


@pytest.fixture(scope="module")
def evaluated(run, dataset):
    folder, found = evaluate(run, str(dataset.path), split="all", device="cpu", progress=False)
    with np.load(folder / EVERY) as file:
        return folder, found, dict(file)


def test_every_pattern_is_judged_once_and_stored_with_its_disorientation(evaluated, dataset, run):
    _, _, stored = evaluated
    np.testing.assert_array_equal(stored["index"], np.arange(dataset.n))
    predictor = load_model(run)
    patterns = dataset.patterns(stored["index"])
    orientation, confidence, _ = predictor.predict(patterns, dataset.read("center_xy"), dataset.read("scale"), n_best=1)
    truth, label = dataset.read("true_orientation"), dataset.read("orientation")
    reference = np.where(stored["exact"][:, None], truth, label)
    error = disorientation_deg(orientation[:, 0], reference, predictor.phases[0].proper_rotations())
    np.testing.assert_allclose(stored["error_deg"], error, atol=1e-4)
    np.testing.assert_allclose(stored["confidence"], confidence[:, 0], atol=1e-5)
    assert stored["exact"].all(), "the small scan has a truth file, and simulated patterns know theirs"


def test_groups_are_shares_of_the_whole_and_their_numbers_are_those_of_the_stored_errors(evaluated):
    folder, found, stored = evaluated
    with (folder / TABLE).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found)
    whole = {row["population"]: int(row["n_patterns"]) for row in rows if row["by"] == "all"}
    assert whole == {"scans, by exact truth": int((~stored["simulated"]).sum()), "simulated": 24}
    for population in whole:
        parts = [
            int(row["n_patterns"])
            for row in rows
            if (row["population"], row["by"]) == (population, "network confidence")
        ]
        assert sum(parts) == whole[population]
        assert len(parts) > 5
    scans = stored["error_deg"][~stored["simulated"]]
    assert float(rows[0]["median_deg"]) == pytest.approx(np.median(scans))
    assert float(rows[0]["within_10_deg"]) == pytest.approx(np.mean(scans <= 10))
    touching = [row for row in rows if row["by"].startswith("distance")]
    assert touching, "grains of the scan meet"
    assert {row["by"] for row in rows} >= {"label confidence", "thickness (Å)"}


def test_the_record_says_what_was_judged_by_what_and_pictures_are_there(evaluated, dataset):
    folder, _, _ = evaluated
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    assert record["trained_on_this_dataset"] is True
    assert list(record["boundaries"].values()) == [EXACT]
    assert record["dataset"]["version"] == dataset.manifest.version
    assert len(record["scores"]) > 10
    assert {path.name for path in folder.glob("*.png")} == {
        "network_confidence.png",
        "label_confidence.png",
        "boundary.png",
        "thickness.png",
    }


def test_an_evaluation_is_replaced_only_when_asked_and_never_a_run(run, dataset, evaluated):
    assert evaluated[0].is_dir()
    with pytest.raises(InputError, match="--overwrite"):
        evaluate(run, str(dataset.path), split="all", device="cpu", progress=False)
    with pytest.raises(InputError, match="is no evaluation"):
        evaluate(run, str(dataset.path), out=run, overwrite=True, device="cpu", progress=False)


def test_another_phase_another_reach_or_no_pattern_is_one_sentence_and_exit_code_2(run, tiny_dataset, tmp_path, capsys):
    foreign = tiny_dataset(tmp_path / "foreign", phases=(CUBIC,))
    for arguments, words in (
        ([str(foreign)], "holds phase cubic (space group 225"),
        ([str(foreign), "--split", "half"], "--split half: is not known"),
        ([str(tmp_path / "none")], "none"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(run), *arguments])
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert words in error
        assert len(error.strip().splitlines()) == 1


def test_a_checkpoint_whose_weights_are_of_another_head_is_one_sentence_and_exit_code_2(run, dataset, tmp_path, capsys):
    saved = load_model(run)
    other = saved.config.model_copy(update={"head": HeadConfig(name="rotation")})
    head = build_head(saved.phases, other.head)
    save_model(tmp_path / "other.safetensors", saved.network, head=head, config=other, phases=saved.phases)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(tmp_path / "other.safetensors"), str(dataset.path), "--device", "cpu"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'other.safetensors'}: does not fit its model cnn: ")
    assert "instead of" in error
    assert len(error.strip().splitlines()) == 1


def test_phases_are_known_by_their_structure_in_any_order():
    renamed = TRIGONAL.model_copy(update={"name": "other"})
    assert phase_numbers((CUBIC, TRIGONAL), (renamed, CUBIC), what="it").tolist() == [1, 0]
    larger = CUBIC.model_copy(update={"lattice": (3.7, 3.7, 3.7, 90.0, 90.0, 90.0)})
    with pytest.raises(InputError, match=r"it: holds phase cubic .*3\.7.* trained on cubic .*3\.52"):
        phase_numbers((CUBIC,), (larger,), what="it")


def test_patterns_that_show_less_than_the_network_looks_at_are_refused_whatever_their_pixels():
    check_reach(1.2, 1.25, what="it", size=(64, 64))
    with pytest.raises(InputError, match=r"it: its patterns \(64 x 64 pixels\) reach 0.6 1/Å .* as far as 1.25"):
        check_reach(0.6, 1.25, what="it", size=(64, 64))


maps = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(-1, 3, (9, 11)))


@given(maps)
def test_the_distance_to_the_boundary_is_that_to_the_nearest_pixel_of_another_grain(grain):
    pixel = np.argwhere(np.ones(grain.shape, bool))
    found = boundary_distance_px(grain, pixel)
    for (row, column), distance in zip(pixel, found, strict=True):
        if grain[row, column] < 0:
            assert np.isnan(distance)
            continue
        others = np.argwhere((grain != grain[row, column]) & (grain >= 0))
        nearest = np.linalg.norm(others - (row, column), axis=1).min(initial=np.inf)
        assert distance == pytest.approx(nearest if nearest <= FARTHEST_PX else np.inf)


def test_without_truth_or_index_grains_are_those_of_the_patterns_listed():
    pixel, grain = np.array([[0, 0], [0, 2]]), np.array([4, 5])
    found, said = grain_map(Source(kind="scan"), pixel, true_grain=np.array([-1, -1]), grain_id=grain)
    assert said == LISTED
    np.testing.assert_array_equal(found, [[4, -1, 5]])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_an_interval_holds_what_is_equal_and_does_not_hang_on_the_order(seed):
    rng = np.random.default_rng(seed)
    error, grain = rng.uniform(0, 20, 40), rng.integers(0, 8, 40)
    order = rng.permutation(40)
    np.testing.assert_allclose(intervals(error, grain), intervals(error[order], grain[order]))
    low, high = intervals(error, grain)
    assert (low <= high).all()
    assert np.isnan(intervals(error, np.zeros(40, int))).all()
    same = intervals(np.full(40, 2.0), grain)
    np.testing.assert_allclose(same[:, METRICS.index("median_deg")], 2.0)
    np.testing.assert_allclose(same[:, METRICS.index("within_1_deg")], 0.0)


def test_equal_values_are_never_put_into_different_groups():
    assert quantile_edges(np.array([1.0] * 50 + [2.0] * 3), parts=10).tolist() == [1.0]
    assert quantile_edges(np.array([1.0] * 7 + [2.0] * 3), parts=4).tolist() == [1.0, 2.0]


def test_the_command_says_by_what_patterns_were_judged(run, dataset, tmp_path, capsys):
    main_arguments = [
        "evaluate",
        str(run),
        str(dataset.path),
        "--split",
        "all",
        "--out",
        str(tmp_path / "e"),
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit) as end:
        main(main_arguments)
    assert end.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("scans, by exact truth: ")
    assert said[-1] == str(tmp_path / "e")
    assert open_dataset(dataset.path).n == json.loads((tmp_path / "e" / RECORD).read_text())["judged"]["patterns"]
