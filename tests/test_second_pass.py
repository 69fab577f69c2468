"""The second pass over small simulated scans whose truth is known: better labels, kept verdicts, honest fallbacks."""

import json
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

from dpcurate import scattering, second_pass
from dpcurate.consensus import NEIGHBOURS, OWN_WINNER, SHARE, from_neighbours, undecided
from dpcurate.errors import InputError
from dpcurate.orientations import disorientation_deg, turn_pattern
from dpcurate.pipeline import index_scan, match_scan, outermost, read_phases
from dpcurate.recipe import load_recipe
from dpcurate.scans import open_scan
from dpcurate.workers import Workers
from tests.crystals import LINIO2, NICKEL
from tests.three_grains import write_scan

CIFS = {name: str(Path(f"datasets/phases/{name}.cif").resolve()) for name in ("LiNiO2", "Ni")}
SYMMETRY = LINIO2.proper_rotations()
CLEAR, ALIKE = 6, 4
"""Seeds of grains that neighbours suffice for, and of grains one of which has rivals that score alike."""


def recipe(*names, **choices):
    given = {"matching__engine": "fast", "library__spacing_deg": 3} | choices
    return load_recipe(phases=[CIFS[name] for name in names or ("LiNiO2",)], **given)


def error(orientation, truth):
    return disorientation_deg(orientation, truth, SYMMETRY)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A scan of three grains, and its truth."""
    return write_scan(tmp_path_factory.mktemp("three"), seed=CLEAR)


@pytest.fixture(scope="module")
def indexed(three):
    return index_scan(three[0], recipe())


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    """What the second pass of a scan with an undecided grain starts from: scan, matches, skipped, phases, recipe."""
    path, _ = write_scan(tmp_path_factory.mktemp("alike"), seed=ALIKE)
    scan, chosen = open_scan(path), recipe()
    phases = read_phases(chosen.phases)
    found = match_scan(scan, phases, chosen)
    return scan, found.matches, np.any(list(found.skipped.values()), axis=0), phases, chosen


def again(matched, keep):
    scan, chosen = matched[0], matched[4]
    return second_pass.consensus(
        *matched, k_max=outermost(scan, chosen), key="test", keep=keep, workers=Workers(threads=2)
    )


def test_labels_are_better_than_those_of_single_patterns(indexed, three):
    truth = three[1]
    single = error(indexed.candidate_orientation[:, :, 0], truth.quat) < 3
    final = error(indexed.orientation, truth.quat) < 3
    assert final.mean() > 0.97
    assert final.mean() > single.mean() + 0.03
    assert final[truth.weight == 1].mean() > 0.99
    assert indexed.info["neighbours"]["judged_by_dynamics"] == 0
    assert indexed.info["seconds"]["neighbours"] > 0


def test_sources_say_why_labels_are_what_they_are(indexed):
    best = indexed.candidate_orientation[:, :, 0]
    own = error(indexed.orientation, best) < 1e-4
    assert own[indexed.source == OWN_WINNER].all()
    assert not own[indexed.source == NEIGHBOURS].any()
    assert set(indexed.source.flat) == {OWN_WINNER, NEIGHBOURS, SHARE}
    assert indexed.correlation.max() <= indexed.candidate_score.max()


def test_at_boundaries_the_second_grain_and_its_weight_are_found(indexed, three):
    truth = three[1]
    mixed = truth.weight < 1
    found = mixed & (indexed.weight < 1)
    assert found.sum() > 0.8 * mixed.sum()
    deep = np.ones(mixed.shape, bool)
    deep[:, 4:10] = deep[3:9, 4:] = False
    assert (indexed.weight[deep] == 1).all()
    assert (indexed.phase2_id[indexed.weight < 1] == 0).all()
    assert (indexed.phase2_id[indexed.weight == 1] == -1).all()
    straight = error(indexed.orientation, truth.quat) < 3
    right = error(indexed.orientation2, truth.quat2)[found & straight] < 3
    assert right.mean() > 0.8
    assert indexed.weight[found & straight].mean() == pytest.approx(0.6, abs=0.1)


def test_orientations_are_turned_into_the_frame_of_the_scan_all_alike(indexed, three):
    turned = index_scan(three[0], recipe(scan__rotation_deg=25.0))
    for name in ("orientation", "orientation2", "candidate_orientation"):
        expected = turn_pattern(getattr(indexed, name), 25.0)
        assert error(getattr(turned, name), expected).max() < 1e-4, name
    np.testing.assert_array_equal(turned.grain_id, indexed.grain_id)


def test_without_pooling_every_pixel_keeps_its_own_match(three):
    found = index_scan(three[0], recipe(neighbours__pool=False))
    np.testing.assert_array_equal(found.orientation, found.candidate_orientation[:, :, 0])
    assert found.source is None
    assert found.weight is None
    assert "neighbours" not in found.info


def test_parts_of_the_second_pass_can_be_left_out(three):
    found = index_scan(three[0], recipe(neighbours__dynamics=False, neighbours__overlap=False))
    assert "judged_by_dynamics" not in found.info["neighbours"]
    assert found.source.max() == 1
    assert (found.weight == 1).all()


@pytest.fixture(scope="module")
def undecided_grain(matched):
    """What judges patterns, what reads them, and a grain with rivals that score alike."""
    scan, matches, skipped, phases, chosen = matched
    kind = chosen.grains.model_dump()
    found = from_neighbours(matches, skipped, phases, **kind)
    regions, cases = undecided(found, matches, phases, min_pixels=chosen.grains.min_pixels, sites=3)
    case = next(case for case in cases if len(case.rivals.score) > 1)
    ranker = second_pass.ranker_of(scan, phases, chosen, k_max=outermost(scan, chosen))
    return ranker, partial(second_pass._site_patterns, scan, regions.grain_id), case


def with_rivals(case, orientation, score):
    first = np.zeros(len(score), int)
    rivals = replace(case.rivals.chosen(first), orientation=np.array(orientation), score=np.array(score, np.float32))
    return replace(case, rivals=rivals)


def test_matching_decides_between_rivals_that_dynamics_finds_equal(undecided_grain):
    ranker, read, case = undecided_grain
    same = case.rivals.orientation[[0, 0]]
    for score, better in (((0.98, 1.0), 1), ((1.0, 0.98), 0)):
        winner, lead, _ = second_pass.judged(ranker, read, with_rivals(case, same, score))
        assert winner == better
        assert 0 < lead < 1


def test_dynamics_outvotes_a_pooled_score_that_is_a_bit_better(undecided_grain):
    ranker, read, case = undecided_grain
    winner, _, _ = second_pass.judged(ranker, read, case)
    right = case.rivals.orientation[winner]
    wrong = turn_pattern(right, 15.0)
    assert second_pass.judged(ranker, read, with_rivals(case, [wrong, right], (1.0, 0.98)))[0] == 1


def test_verdicts_are_kept_and_not_given_again(matched, tmp_path, monkeypatch):
    monkeypatch.setattr(second_pass, "SITES", 6)
    whole, report = again(matched, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines() if line]
    assert len(lines) == report["judged_by_dynamics"] >= 1

    def refuse(*_, **__):
        raise AssertionError("judged again")

    with monkeypatch.context() as patched:
        patched.setattr(second_pass, "judge", refuse)
        assert_kept(matched, tmp_path, whole, lines)
    assert same(again(matched, tmp_path)[0], whole)
    assert json.loads((tmp_path / "verdicts.jsonl").read_text().splitlines()[-1]) == lines[-1]


def assert_kept(matched, folder, whole, lines):
    """What is kept is taken, and not what is damaged."""
    assert same(again(matched, folder)[0], whole)
    for damaged in (b"", b"[0, 1, 15", b"7", b"\xff\xfe", b'["a", 0, 1]', json.dumps([lines[0][0], 99, 1.0]).encode()):
        (folder / "verdicts.jsonl").write_bytes(damaged)
        with pytest.raises(AssertionError, match="judged again"):
            again(matched, folder)


def same(a, b):
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


def test_a_kept_folder_that_cannot_be_written_is_one_sentence(matched, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        again(matched, tmp_path / "file")


def test_a_cell_too_large_for_bloch_waves_leaves_neighbours_to_decide(matched, monkeypatch):
    whole, _ = again((*matched[:4], without(matched[4])), None)
    for most in (3, 14):  # refused before anything is judged, and only for some orientation
        monkeypatch.setattr(scattering, "MOST_BEAMS", most)
        found, report = again(matched, None)
        assert report["judged_by_dynamics"] == 0
        assert report["dynamics"].startswith("not used: phase LiNiO2: a pattern has about")
        assert same(found, whole)


def without(chosen):
    return chosen.model_copy(update={"neighbours": chosen.neighbours.model_copy(update={"dynamics": False})})


def test_two_phases_are_told_apart_and_mixed(tmp_path):
    path, truth = write_scan(tmp_path, phases=(LINIO2, NICKEL), phase_of_grain=(0, 1, 0), seed=7)
    found = index_scan(path, recipe("LiNiO2", "Ni", neighbours__dynamics=False, neighbours__noise=False))
    pure = truth.weight == 1
    assert (found.phase_id == truth.phase_id)[pure].mean() > 0.95
    both = (truth.weight < 1) & (found.weight < 1) & (truth.phase2_id != truth.phase_id)
    both &= found.phase_id == truth.phase_id
    assert both.sum() > 5
    assert (found.phase2_id == truth.phase2_id)[both].mean() > 0.8


def test_a_phase_that_is_not_there_is_not_found(three):
    found = index_scan(three[0], recipe("LiNiO2", "Ni", neighbours__dynamics=False))
    assert (found.phase_id == 0).mean() > 0.95
    assert (found.phase2_id[found.weight < 1] == 0).mean() > 0.9


def test_empty_and_broken_patterns_are_skipped_and_spoil_nothing_around_them(three, indexed, tmp_path):
    signal = hs.load(three[0])
    signal.change_dtype("float32")
    signal.data[3, 3], signal.data[8, 7], signal.data[10, 12] = 0, np.nan, -1
    signal.save(tmp_path / "holes.hspy")
    found = index_scan(tmp_path / "holes.hspy", recipe())
    holes = np.zeros(found.shape, bool)
    holes[3, 3] = holes[8, 7] = holes[10, 12] = True
    np.testing.assert_array_equal(found.phase_id == -1, holes)
    assert (found.grain_id[holes] == -1).all()
    assert (found.weight[holes] == 1).all()
    assert (found.phase2_id[holes] == -1).all()
    assert np.isfinite(found.weight).all()
    assert (found.confidence[holes] == 0).all()
    right = [error(result.orientation, three[1].quat)[~holes] < 3 for result in (found, indexed)]
    assert right[0].mean() > right[1].mean() - 0.05


def test_the_pyxem_engine_has_a_second_pass_too(three):
    coarse = {"preprocess__n_radius": 40, "preprocess__n_azimuth": 120, "library__spacing_deg": 6}
    found = index_scan(three[0], recipe(matching__engine="pyxem", neighbours__dynamics=False, **coarse))
    single = error(found.candidate_orientation[:, :, 0], three[1].quat) < 6
    final = error(found.orientation, three[1].quat) < 6
    assert final.mean() >= single.mean() - 0.02
    assert found.source is not None
    assert (found.weight < 1).any()


def test_the_result_does_not_depend_on_how_the_scan_is_cut_into_bands(matched, monkeypatch):
    chosen = without(matched[4])
    whole, _ = again((*matched[:4], chosen), None)
    patterns = matched[0].patterns.rechunk((3, 5, -1, -1))
    monkeypatch.setattr("dpcurate.bands.BAND_BYTES", 1)
    cut = (replace(matched[0], patterns=patterns), *matched[1:4], chosen)
    assert same(again(cut, None)[0], whole)
