"""Pages of maps: equal panels, honest colours, any shape."""

from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from dpcurate import figures, map_pages
from dpcurate.color_keys import group_label
from tests.crystals import CEMENTITE, LINIO2, NICKEL, TITANIUM
from tests.index_results import index_result

NAMES = ["deformation.png", "grains.png", "orientation.png", "scores.png"]


@pytest.mark.parametrize("shape", [(3, 2), (1, 40), (40, 1), (1, 1), (20, 100)])
def test_every_shape_of_scan_is_drawn(shape, tmp_path):
    written = map_pages.write_maps(index_result(shape, n_grains=2, n_best=1), tmp_path)
    assert sorted(path.name for path in written) == NAMES == sorted(path.name for path in tmp_path.iterdir())
    for path in written:
        image = matplotlib.image.imread(path)
        assert image[..., :3].min() < 0.5
        assert (image[:, 0, :3] == 1).all(), "something is cut off at the left"


def test_a_map_with_nothing_indexed_is_drawn(tmp_path):
    result = index_result((4, 5), n_best=1)
    blank = SimpleNamespace(
        **vars(result) | {"phase_id": np.full((4, 5), -1, np.int16), "grain_id": np.full((4, 5), -1, np.int32)},
        shape=result.shape,
    )
    assert len(map_pages.write_maps(blank, tmp_path)) == 4


def test_a_second_orientation_gets_a_page_of_its_own(tmp_path):
    result = index_result((6, 7), n_best=1)
    overlapping = SimpleNamespace(
        **vars(result) | {"weight": np.full((6, 7), 0.7, np.float32), "orientation2": result.orientation},
        shape=result.shape,
    )
    written = map_pages.write_maps(overlapping, tmp_path)
    assert sorted(path.name for path in written) == sorted([*NAMES, "overlap.png"])


@pytest.mark.parametrize("shape", [(40, 40), (512, 512), (30, 50), (7, 4)])
def test_panels_are_equal_and_a_pixel_of_the_map_has_a_whole_number_of_dots(shape):
    made = map_pages.page(shape, 3, bars=True, n_keys=2)
    sizes = [axes.get_window_extent().bounds[2:] for axes in made.panels]
    dots = np.array(sizes) * map_pages.DPI / made.figure.dpi / shape[::-1]
    assert dots == pytest.approx(np.round(dots[0, 0]), abs=1e-6)
    assert not made.stretched


@pytest.mark.parametrize(
    ("phases", "lines"), [((LINIO2,), 1), ((LINIO2, NICKEL, TITANIUM, CEMENTITE, LINIO2, NICKEL, TITANIUM), 2)]
)
def test_keys_have_room_inside_the_page(phases, lines):
    made = map_pages.page((40, 40), 3, n_keys=len(phases))
    boxes = [axes.get_position() for axes in made.keys]
    assert len({round(box.y0, 6) for box in boxes}) == lines
    assert min(box.x0 for box in boxes) > 0
    assert max(box.x1 for box in boxes) < 1
    assert max(box.y1 for box in boxes) < min(axes.get_position().y0 for axes in made.panels)


def test_a_line_scan_says_that_it_is_not_to_scale():
    assert map_pages.page((1, 50), 2).stretched
    assert not map_pages.page((50, 50), 2).stretched


@pytest.mark.parametrize(
    ("step_nm", "columns", "label"),
    [(10.0, 40, "100 nm"), (2500.0, 40, "20 µm"), (0.4, 2, "0.2 nm"), (None, 40, "10 pixels"), (None, 2, "1 pixel")],
)
def test_the_scale_bar_has_a_round_length(step_nm, columns, label):
    axes = Figure().subplots()
    figures.draw_ipf(axes, np.zeros((3, columns, 3)), title="", step_nm=step_nm)
    assert [text.get_text() for text in axes.texts] == [label]


def test_the_scale_bar_is_as_long_as_it_says():
    axes = Figure().subplots()
    figures.draw_ipf(axes, np.zeros((30, 40, 3)), title="", step_nm=10.0)
    assert axes.lines[0].get_xdata() == pytest.approx([0, 100 / 400])


def test_colours_span_the_numbers_and_an_arrow_shows_what_is_beyond():
    values = np.concatenate([np.linspace(0.2, 0.4, 999), [30.0]]).reshape(50, 20)
    low, high = figures.spread_limits(values)
    assert 0.2 < low < 0.21
    assert 0.39 < high < 0.41
    axes = Figure().subplots()
    figures.draw_score(axes, values, title="", step_nm=1.0, unit="degrees")
    bar = axes.figure.axes[1]
    assert bar.get_title(loc="left") == "degrees"
    assert axes.images[0].colorbar.extend == "both"
    assert figures.spread_limits(np.array([[np.nan]])) == (0.0, 1.0)
    assert figures.spread_limits(np.full((3, 3), 0.5), low=0.0) == (0.0, 0.5)


def test_borders_run_between_grains_and_not_around_holes():
    grain = np.array([[0, 0, 1], [0, -1, 1]])
    lines = sorted(map(tuple, figures.border_lines(grain).reshape(-1, 4).tolist()))
    assert lines == [(1.5, -0.5, 1.5, 0.5)]


def test_neighbouring_grains_differ_in_colour():
    result = index_result((60, 60), n_grains=150, n_best=1, phases=(NICKEL,))
    axes = Figure().subplots()
    figures.draw_grains(axes, result.grain_id, title="", step_nm=1.0)
    shown = np.asarray(axes.images[0].get_array())
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        border = (result.grain_id[a] != result.grain_id[b]) & (result.grain_id[a] >= 0) & (result.grain_id[b] >= 0)
        assert (shown[a] != shown[b])[border].all()


def test_point_groups_are_written_with_bars():
    assert group_label("m-3m") == r"$m\bar{3}m$"
    assert group_label("-1") == r"$\bar{1}$"
    assert group_label("6/mmm") == "$6/mmm$"
