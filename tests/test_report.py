import base64
import csv
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.crystal_maps import read_index
from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg
from dpcurate.store import open_dataset
from dpcurate.truth import read_truth
from dptrain.report import report_run
from dptrain.report_data import read_run
from dptrain.reports import write_reports
from dptrain.runs import open_run_dataset
from dptrain.scores import guess_score, map_errors_deg, score, untrained_grains
from tests.crystals import LINIO2, NICKEL
from tests.small_scan import WRONG_DEG, scan_of, small_index, small_run, wrong_labels


class Page(HTMLParser):
    """What a page is made of: addresses it would load, pictures, text; every tag closed in order."""

    def __init__(self, path):
        super().__init__()
        self.links, self.images, self.text, self.open = [], [], "", []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given_attrs = dict(attrs)
        self.links += [given_attrs[key] for key in ("src", "href") if key in given_attrs]
        if tag == "img":
            self.images.append(given_attrs)
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def page(run):
    return report_run(run)


@pytest.fixture(scope="module")
def table(page):
    with (page.with_suffix("") / "scores.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def row(table, answer, pixels):
    return next(one for one in table if one["answer"] == answer and one["pixels"] == pixels)


def test_the_page_stands_alone_with_its_pictures_inside(page):
    content = Page(page)
    assert page.stat().st_size < 5e6
    assert "http" not in page.read_text(encoding="utf-8").replace("http-equiv", "")
    assert all(link.startswith("data:image/png;base64,") for link in content.links)
    assert len(content.images) >= 11
    for image in content.images:
        assert image["alt"]
        assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")


def test_the_page_names_data_versions_and_commands(page, run):
    text = Page(page).text
    manifest = open_run_dataset(read_run(run).config).manifest
    for needed in (
        f"{manifest.name}@{manifest.version}",
        manifest.sources[0].scan_sha256,
        "dpcurate build-dataset",
        "dptrain run --model cnn",
        f"dptrain predict {run}",
        "pyxem 0.21.0",
        "random guess",
    ):
        assert needed in text


def test_the_labels_errors_in_the_table_are_those_that_were_put_in(table, tmp_path_factory):
    wrong = wrong_labels((12, 12))
    everywhere = row(table, "labels", "all pixels")
    assert int(everywhere["n_pixels"]) == 144
    assert int(everywhere["n_grains"]) == 14
    assert float(everywhere["within_1_deg"]) == pytest.approx(np.mean(~wrong))
    assert float(everywhere["mean_deg"]) == pytest.approx(WRONG_DEG * wrong.mean(), rel=1e-3)
    confident = row(table, "labels", "labels with confidence 0.8 and above")
    assert float(confident["within_1_deg"]) == 1
    assert int(row(table, "network", "wrong labels")["n_pixels"]) == wrong.sum()
    assert float(row(table, "labels", "wrong labels")["median_deg"]) == pytest.approx(WRONG_DEG, rel=1e-3)
    truth = read_truth(scan_of(small_index(tmp_path_factory.getbasetemp())))
    assert int(row(table, "network", "inside grains")["n_pixels"]) == int((truth.weight > 0.97).sum())


def test_the_networks_numbers_are_its_disorientations_from_the_truth(table, run):
    found = read_index(run / "small.predicted")
    truth = read_truth(found.info["scan"]["path"])
    error = disorientation_deg(found.orientation, truth.quat, LINIO2.proper_rotations())
    everywhere = row(table, "network", "all pixels")
    assert float(everywhere["median_deg"]) == pytest.approx(np.median(error))
    assert float(everywhere["within_10_deg"]) == pytest.approx(np.mean(error <= 10))


def test_grains_not_trained_on_are_counted_from_the_dataset(table, run):
    dataset = open_run_dataset(read_run(run).config)
    trained = np.unique(dataset.read("true_grain")[dataset.read("split") == 0])
    found = read_index(run / "small.predicted")
    grain = read_truth(found.info["scan"]["path"]).grain
    unseen = ~np.isin(grain, trained)
    one = row(table, "network", "grains not trained on")
    assert 0 < int(one["n_pixels"]) == unseen.sum()
    assert int(one["n_grains"]) == len(np.unique(grain[unseen]))


@given(grain=st.lists(st.integers(-1, 6), min_size=1, max_size=40), data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_grain_with_a_trained_pixel_counts_as_unseen(grain, data):
    trained = np.array(data.draw(st.lists(st.booleans(), min_size=len(grain), max_size=len(grain))))
    grain = np.array(grain)
    unseen = untrained_grains(grain, trained)
    assert not set(grain[unseen]) & set(grain[trained])
    assert not (unseen & (grain < 0)).any()
    assert all(unseen[k] for k in range(len(grain)) if grain[k] >= 0 and grain[k] not in grain[trained])


def test_a_guess_is_off_as_far_as_published():
    assert guess_score(LINIO2.proper_rotations()).mean_deg == pytest.approx(66.6, abs=0.2)
    assert guess_score(NICKEL.proper_rotations()).mean_deg == pytest.approx(40.7, abs=0.2)


def test_pixels_without_an_orientation_count_as_wrong_and_pixels_without_truth_do_not_count():
    identity = np.tile([1.0, 0, 0, 0], (4, 1))
    reference = identity.copy()
    reference[3] = np.nan
    error = map_errors_deg(identity, np.array([0, 0, -1, 0], np.int16), reference, phases=[LINIO2])
    np.testing.assert_allclose(error, [0, 0, 180, np.nan], atol=1e-9)
    told = score(error, np.ones(4, bool), answer="network", pixels="all pixels", grain=None)
    assert told.n_pixels == 3
    assert told.within_10_deg == pytest.approx(2 / 3)


def test_without_a_truth_the_page_compares_with_the_labels_and_says_so(run, tmp_path):
    truth = scan_of(run / "small.predicted").with_name("small.truth.npz")
    aside = truth.rename(tmp_path / truth.name)
    try:
        page = report_run(run, out=tmp_path / "page.html")
    finally:
        shutil.move(aside, truth)
    text = Page(page).text
    assert "exact truth of this scan is not known" in text
    with (tmp_path / "page" / "scores.csv").open(newline="", encoding="utf-8") as stream:
        answers = {one["answer"] for one in csv.DictReader(stream)}
    assert answers == {"network against labels", "random guess"}


def test_what_is_no_finished_run_is_refused_by_name(run, tmp_path):
    with pytest.raises(InputError, match="neither a run"):
        write_reports([tmp_path])
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    lines = (stopped / "metrics.csv").read_text(encoding="utf-8").splitlines()
    (stopped / "metrics.csv").write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="stopped: not finished, 1 of 2 epochs"):
        write_reports([run, stopped])


def test_a_prediction_of_another_network_is_refused(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    shutil.copy(run / "last.safetensors", other / "model.safetensors")
    with (other / "model.safetensors").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(InputError, match="predicted by another network"):
        report_run(other)
    shutil.rmtree(other / "small.predicted")
    with pytest.raises(InputError, match="dptrain predict"):
        report_run(other)


def test_a_run_whose_dataset_is_gone_is_refused(run, tmp_path):
    lost = tmp_path / "lost"
    shutil.copytree(run, lost)
    config = (lost / "config.toml").read_text(encoding="utf-8")
    path = str(open_dataset(open_run_dataset(read_run(run).config).path).path)
    (lost / "config.toml").write_text(config.replace(path, path + "-gone"), encoding="utf-8")
    with pytest.raises(InputError, match="manifest"):
        report_run(lost)
