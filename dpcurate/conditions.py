"""What a pattern was taken under: ranges for sample and instrument, and the values drawn from them for each pattern.

Every part is a range (low, high) or None, which switches it off. What stays fixed over a scan belongs to the
instrument, the rest changes from pattern to pattern. The values drawn are kept as labels of the pattern.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from dpcurate.draws import uniform
from dpcurate.schema import Record

Pair = tuple[float, float]

_SAMPLE_STREAM, _INSTRUMENT_STREAM = 0x5A01, 0x5A02
"""What the numbers of `draws` are for."""


def _within(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[Pair], Pair]:
    """A check that a range is finite, ordered, and inside its bounds; ``above``: the lower one is left out."""

    def check(pair: Pair) -> Pair:
        low, high = pair
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError("expected a range (low, high) of finite numbers, low first")
        if low < least or high > most or (above and low == least):
            upper = f" to {most:g}" if math.isfinite(most) else ""
            raise ValueError(f"expected a range {'above' if above else 'from'} {least:g}{upper}")
        return pair

    return check


Positive = Annotated[Pair, AfterValidator(_within(0, above=True))]
NotNegative = Annotated[Pair, AfterValidator(_within(0))]
Share = Annotated[Pair, AfterValidator(_within(0, 1))]


class InstrumentModel(Record):
    """Ranges for what stays fixed over a scan. Defaults: a counting detector, about a pixel away from ideal."""

    number: int = Field(10_000, ge=1, le=2**24, description="instruments to choose from; 1: all patterns share one")
    dose_electrons: Annotated[Pair, AfterValidator(_within(0, 1e8, above=True))] = Field(
        (5_000.0, 20_000.0), description="electrons a pattern, log-uniform; those that miss the frame included"
    )
    spot_sigma_px: Annotated[Pair, AfterValidator(_within(0.2, 100))] = (0.9, 1.6)
    convergence_mrad: Annotated[Pair, AfterValidator(_within(0, 100))] | None = Field(
        None, description="half-angle of the beam; beams become disks, blurred by spot_sigma_px; 0: none"
    )
    point_spread_sigma_px: NotNegative | None = (0.0, 0.5)
    detector: Literal["counting", "integrating"] = "counting"
    gain_counts_per_electron: Positive | None = Field(None, description="integrating detectors only")
    readout_noise_counts: NotNegative | None = Field(None, description="standard deviation; integrating detectors only")
    hot_fraction: Annotated[Pair, AfterValidator(_within(0, 0.1))] | None = (0.0, 5e-4)
    hot_electrons: Positive = Field((5.0, 500.0), description="what a hot pixel counts on average, log-uniform")
    dead_fraction: Annotated[Pair, AfterValidator(_within(0, 0.1))] | None = (0.0, 1e-3)
    beam_stop_radius_px: NotNegative | None = None
    beam_stop_chance: float = Field(0.5, ge=0, le=1, description="how many instruments have one")
    scale_error: Annotated[Pair, AfterValidator(_within(-0.2, 0.2))] | None = Field(
        (-0.01, 0.01), description="by how much patterns are larger than the calibration says"
    )
    ellipse_ratio: Annotated[Pair, AfterValidator(_within(1, 1.5))] | None = Field(
        (1.0, 1.02), description="long over short axis of what should be a circle of the same area"
    )
    descan_px: NotNegative | None = Field((0.0, 1.0), description="drift of the centre from edge to edge of a scan")

    @model_validator(mode="after")
    def _gain_belongs_to_integrating_detectors(self) -> "InstrumentModel":
        if self.detector == "counting" and (self.gain_counts_per_electron or self.readout_noise_counts):
            raise ValueError("a counting detector has neither gain_counts_per_electron nor readout_noise_counts")
        if self.detector == "integrating" and self.gain_counts_per_electron is None:
            raise ValueError("an integrating detector needs gain_counts_per_electron")
        return self


class SampleModel(Record):
    """Ranges for what changes from pattern to pattern, and the instrument's.

    Defaults: a thin polycrystal. Shares of direct beam and background, and widths, bracket those of the demonstration
    scan.
    """

    thickness_angstrom: Annotated[Pair, AfterValidator(_within(0, 1e5, above=True))] = (100.0, 800.0)
    mosaic_deg: Annotated[Pair, AfterValidator(_within(0, 10))] | None = Field(
        (0.0, 0.2), description="standard deviation of the tilt inside the probe, about each axis"
    )
    overlap_chance: float = Field(0.2, ge=0, le=1, description="how many patterns hold two grains")
    first_weight: Share | None = Field((0.5, 0.95), description="share of the first grain where there are two")
    direct_share: Share = Field((0.55, 0.9), description="of the beams' electrons, where no dynamical theory gives it")
    inelastic_share: Share | None = Field(None, description="of each beam's electrons, in a halo around it")
    inelastic_sigma_px: Positive = (3.0, 6.0)
    diffuse_share: Share | None = Field((0.2, 0.35), description="of the dose, in a background around the centre")
    diffuse_width_inv_angstrom: Positive = Field((0.35, 0.5), description="its standard deviation")
    diffuse_core_share: Share | None = Field((0.0, 0.25), description="of the background, in a narrower part")
    diffuse_core_width_inv_angstrom: Positive = (0.1, 0.2)
    ring_chance: float = Field(0.2, ge=0, le=1, description="how many patterns have an amorphous ring")
    ring_share: Share | None = Field((0.02, 0.15), description="of the dose")
    ring_radius_inv_angstrom: Positive = (0.4, 0.55)
    ring_width_inv_angstrom: Positive = Field((0.03, 0.08), description="standard deviation along the radius")
    center_shift_px: NotNegative | None = Field((0.0, 1.0), description="distance from the centre, in any direction")
    instrument: InstrumentModel = InstrumentModel()

    @model_validator(mode="after")
    def _shares_leave_room_for_beams(self) -> "SampleModel":
        if sum(pair[1] for pair in (self.diffuse_share, self.ring_share) if pair) >= 1:
            raise ValueError("diffuse_share and ring_share together must stay below 1")
        return self


@dataclass(frozen=True)
class Conditions:
    """Values drawn for b patterns: tensors of shape ``(b,)``, float32 but for ``instrument``, int64.

    A part that is switched off has the value that leaves no trace: 0, or 1 for ``first_weight``, ``ellipse_ratio`` and
    ``gain_counts_per_electron``. Meanings are those of the ranges. Shifts are along columns (x) and rows (y), descan
    included; ``ellipse_angle_deg`` is where the long axis lies, from x towards y.
    """

    instrument: Tensor
    dose_electrons: Tensor
    thickness_angstrom: Tensor
    mosaic_deg: Tensor
    first_weight: Tensor
    direct_share: Tensor
    inelastic_share: Tensor
    inelastic_sigma_px: Tensor
    diffuse_share: Tensor
    diffuse_width_inv_angstrom: Tensor
    diffuse_core_share: Tensor
    diffuse_core_width_inv_angstrom: Tensor
    ring_share: Tensor
    ring_radius_inv_angstrom: Tensor
    ring_width_inv_angstrom: Tensor
    shift_x_px: Tensor
    shift_y_px: Tensor
    scale_error: Tensor
    ellipse_ratio: Tensor
    ellipse_angle_deg: Tensor
    spot_sigma_px: Tensor
    convergence_mrad: Tensor
    point_spread_sigma_px: Tensor
    beam_stop_radius_px: Tensor
    gain_counts_per_electron: Tensor
    readout_noise_counts: Tensor
    hot_fraction: Tensor
    hot_electrons: Tensor
    dead_fraction: Tensor

    def __len__(self) -> int:
        """Number of patterns."""
        return len(self.instrument)

    def __getitem__(self, part: slice | Tensor) -> "Conditions":
        """The conditions of some of the patterns."""
        return replace(self, **{name: column[part] for name, column in self.as_columns().items()})

    def to(self, device: torch.device | str) -> "Conditions":
        """The same conditions on another device."""
        return replace(self, **{name: column.to(device) for name, column in self.as_columns().items()})

    def as_columns(self) -> dict[str, Tensor]:
        """Label columns by name, each ``(b,)``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def draw_conditions(index: Tensor, model: SampleModel, *, seed: int, position: Tensor | None = None) -> Conditions:
    """Conditions of patterns ``index`` ``(b,)``, int64; each depends on seed and its own index only.

    ``position`` holds places in a scan, ``(b, 2)``, (column, row) from 0 to 1, for the drift of the centre; by default
    each pattern comes from anywhere.
    """
    u = _numbers(index, _OF_SAMPLE, seed=seed, stream=_SAMPLE_STREAM)
    instrument = (u["instrument"] * model.instrument.number).long().clamp(max=model.instrument.number - 1)
    values = {name: _between(u[name], getattr(model, name)) for name in _PLAIN_OF_SAMPLE}
    values["ring_share"] *= u["ring_chance"] < model.ring_chance
    weight = _between(u["first_weight"], model.first_weight, off=1.0)
    values["first_weight"] = torch.where(u["overlap_chance"] < model.overlap_chance, weight, 1.0)
    fixed, drift, turn = _of_instrument(instrument, model.instrument, seed=seed)
    if position is None:
        position = torch.stack([u["position_x"], u["position_y"]], dim=1)
    x, y = (position.to(drift) - 0.5).T
    distance, way = _between(u["center_shift_px"], model.center_shift_px), u["center_way"] * (2 * torch.pi)
    values["shift_x_px"] = distance * way.cos() + drift * (turn.cos() * x - turn.sin() * y)
    values["shift_y_px"] = distance * way.sin() + drift * (turn.sin() * x + turn.cos() * y)
    return Conditions(instrument=instrument, **values, **fixed)


_PLAIN_OF_SAMPLE = (
    *("thickness_angstrom", "mosaic_deg", "direct_share", "inelastic_share", "inelastic_sigma_px", "diffuse_share"),
    *("diffuse_width_inv_angstrom", "diffuse_core_share", "diffuse_core_width_inv_angstrom", "ring_share"),
    *("ring_radius_inv_angstrom", "ring_width_inv_angstrom"),
)
"""Ranges of the sample that are drawn as they stand."""

_OF_SAMPLE = (
    *("instrument", "position_x", "position_y", "center_shift_px", "center_way", "overlap_chance", "first_weight"),
    *("ring_chance", *_PLAIN_OF_SAMPLE),
)
"""Place of each number among those of a sample. New ones go to the end, so that the others stay what they were."""

_PLAIN_OF_INSTRUMENT = (
    *("spot_sigma_px", "convergence_mrad", "point_spread_sigma_px", "beam_stop_radius_px", "scale_error"),
    *("readout_noise_counts", "hot_fraction", "dead_fraction"),
)
"""Ranges of the instrument that are drawn as they stand."""

_OF_INSTRUMENT = (
    *("dose_electrons", "hot_electrons", "beam_stop_chance", "ellipse_ratio", "ellipse_angle_deg", "descan_px"),
    *("descan_way", "gain_counts_per_electron", *_PLAIN_OF_INSTRUMENT),
)
"""Place of each number among those of an instrument."""


def _of_instrument(
    instrument: Tensor, model: InstrumentModel, *, seed: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Values of instruments ``(b,)`` by name; length of the drift of the centre in pixels, its direction in radians."""
    u = _numbers(instrument, _OF_INSTRUMENT, seed=seed, stream=_INSTRUMENT_STREAM)
    values = {name: _between(u[name], getattr(model, name)) for name in _PLAIN_OF_INSTRUMENT}
    values["beam_stop_radius_px"] *= u["beam_stop_chance"] < model.beam_stop_chance
    for name in ("dose_electrons", "hot_electrons"):
        low, high = getattr(model, name)
        values[name] = _between(u[name], (math.log(low), math.log(high))).exp().clamp(low, high)
    for name in ("ellipse_ratio", "gain_counts_per_electron"):
        values[name] = _between(u[name], getattr(model, name), off=1.0)
    values["ellipse_angle_deg"] = u["ellipse_angle_deg"] * 180
    return values, _between(u["descan_px"], model.descan_px), u["descan_way"] * (2 * torch.pi)


def _numbers(index: Tensor, names: tuple[str, ...], *, seed: int, stream: int) -> dict[str, Tensor]:
    """One uniform number per name and sample, each ``(b,)``."""
    return dict(zip(names, uniform(index, seed=seed, stream=stream, n=len(names)).T.contiguous(), strict=True))


def _between(u: Tensor, pair: Pair | None, *, off: float = 0.0) -> Tensor:
    """Uniform values inside a range, or the value that switches the part off."""
    low, high = pair or (off, off)
    return low + (high - low) * u
