"""Conditions drawn from ranges: inside them, independent of the batch, refused when they make no sense."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dpcurate.conditions import InstrumentModel, SampleModel, draw_conditions

PARTS_OFF = {
    "mosaic_deg": None,
    "first_weight": None,
    "diffuse_share": None,
    "diffuse_core_share": None,
    "ring_share": None,
    "center_shift_px": None,
}
INSTRUMENT_PARTS_OFF = {
    "point_spread_sigma_px": None,
    "hot_fraction": None,
    "dead_fraction": None,
    "scale_error": None,
    "ellipse_ratio": None,
    "descan_px": None,
}


def ranges(model):
    """Range of each value that has one and is not switched off."""
    both = {**dict(model), **dict(model.instrument)}
    return {name: pair for name, pair in both.items() if isinstance(pair, tuple)}


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(30)), size=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_conditions_do_not_depend_on_the_batch(order, size, seed):
    some = torch.tensor(order[:size])
    whole = draw_conditions(torch.arange(30), SampleModel(), seed=seed)
    part = draw_conditions(some, SampleModel(), seed=seed)
    for name, column in whole[some].as_columns().items():
        assert torch.equal(part.as_columns()[name], column), name


def test_values_fill_their_ranges_and_never_leave_them():
    model = SampleModel(
        inelastic_share=(0.1, 0.2),
        ring_chance=1,
        overlap_chance=1,
        instrument=InstrumentModel(
            detector="integrating",
            gain_counts_per_electron=(2, 5),
            readout_noise_counts=(1, 3),
            convergence_mrad=(1, 2),
            beam_stop_radius_px=(3, 5),
            beam_stop_chance=1,
        ),
    )
    columns = draw_conditions(torch.arange(20_000), model, seed=1).as_columns()
    # single precision rounds the bounds, too
    for name, (low, high) in ranges(model).items():
        if name in columns:
            near = 0.01 * (high - low)
            assert low * (1 - 1e-6) - 1e-6 <= columns[name].min() <= low + near, name
            assert high - 3 * near <= columns[name].max() <= high * (1 + 1e-6), name


def test_the_dose_is_log_uniform():
    model = SampleModel(instrument=InstrumentModel(dose_electrons=(100, 10_000)))
    dose = draw_conditions(torch.arange(20_000), model, seed=1).dose_electrons
    assert (dose < 1000).float().mean() == pytest.approx(0.5, abs=0.02)


def test_parts_that_are_switched_off_have_the_values_that_leave_no_trace():
    model = SampleModel(**PARTS_OFF, instrument=InstrumentModel(**INSTRUMENT_PARTS_OFF))
    columns = draw_conditions(torch.arange(100), model, seed=1).as_columns()
    for name in (*PARTS_OFF, *INSTRUMENT_PARTS_OFF, "shift_x_px", "shift_y_px", "convergence_mrad", "inelastic_share"):
        neutral = 1 if name in ("first_weight", "ellipse_ratio") else 0
        assert name in ("center_shift_px", "descan_px") or (columns[name] == neutral).all(), name
    assert (columns["gain_counts_per_electron"] == 1).all()


def test_chances_say_how_many_patterns_have_a_part():
    model = SampleModel(overlap_chance=0.3, ring_chance=0.1)
    conditions = draw_conditions(torch.arange(20_000), model, seed=2)
    assert (conditions.first_weight < 1).float().mean() == pytest.approx(0.3, abs=0.02)
    assert (conditions.ring_share > 0).float().mean() == pytest.approx(0.1, abs=0.02)


def test_patterns_of_one_instrument_share_what_belongs_to_it_and_nothing_else():
    model = SampleModel(instrument=InstrumentModel(number=5))
    conditions = draw_conditions(torch.arange(500), model, seed=1)
    assert set(conditions.instrument.tolist()) == set(range(5))
    first = conditions[conditions.instrument == 3]
    shared = {name for name, column in first.as_columns().items() if len(column.unique()) == 1}
    assert {"dose_electrons", "spot_sigma_px", "ellipse_ratio", "scale_error", "hot_fraction"} <= shared
    assert not {"thickness_angstrom", "shift_x_px", "diffuse_share", "direct_share"} & shared


def test_descan_moves_the_centre_in_proportion_to_the_place_in_the_scan():
    instrument = InstrumentModel(number=1, descan_px=(3, 3))
    model = SampleModel(center_shift_px=None, instrument=instrument)
    position = torch.tensor([[0.5, 0.5], [0.0, 0.5], [1.0, 0.5], [0.5, 1.0]])
    conditions = draw_conditions(torch.arange(4), model, seed=1, position=position)
    shift = torch.stack([conditions.shift_x_px, conditions.shift_y_px], dim=1)
    assert shift[0].abs().max() == 0
    assert torch.allclose(shift[1], -shift[2])
    assert torch.linalg.norm(shift[2] - shift[1]) == pytest.approx(3, rel=1e-5)
    assert shift[2] @ shift[3] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"thickness_angstrom": (0, 100)}, "above 0"),
        ({"thickness_angstrom": (300, 100)}, "low first"),
        ({"diffuse_share": (0.1, 1.2)}, "from 0 to 1"),
        ({"diffuse_share": (0.1, 0.7), "ring_share": (0.1, 0.4)}, "together must stay below 1"),
        ({"mosaic_deg": (0, math.inf)}, "finite"),
        ({"no_such_part": (0, 1)}, "Extra inputs"),
        ({"instrument": {"dose_electrons": (-5, 100)}}, "above 0"),
        ({"instrument": {"dose_electrons": (1, math.nan)}}, "finite"),
        ({"instrument": {"ellipse_ratio": (0.9, 1.1)}}, "from 1 to 1.5"),
        ({"instrument": {"detector": "integrating"}}, "needs gain_counts_per_electron"),
        ({"instrument": {"readout_noise_counts": (1, 2)}}, "counting detector has neither"),
    ],
)
def test_ranges_without_sense_are_refused_with_the_reason(values, says):
    with pytest.raises(ValidationError, match=says):
        SampleModel.model_validate(values)
