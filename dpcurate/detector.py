"""From spots to counts: beams, background and rings as a detector shows them, then electrons counted.

`render` gives expected electrons, `count` what is written to a file. Pixel j covers j - 1/2 to j + 1/2. Nothing here
depends on which other patterns are in the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpcurate.conditions import Conditions
from dpcurate.draws import chunk_of, normal, poisson, uniform
from dpcurate.reflections import wavelength_angstrom

_COUNT_STREAM, _READOUT_STREAM, _HOT_STREAM, _DEAD_STREAM = 0xDE01, 0xDE02, 0xDE03, 0xDE04
"""What the numbers of `draws` are for."""

_FIXED_POINT = 2.0**32
"""Steps of the strongest beam in which the beams are added up: sums of whole numbers do not depend on their order."""

_ELECTRON_STEPS = 2.0**20
"""Parts of an electron in which disks are added up, for the same reason."""

_BLOCK = 64
"""Spots summed in one matrix product. MKL and cuBLAS split longer sums, in an order that depends on the padding."""

_DISK_REACH = 3.0
"""Standard deviations beyond its radius at which a blurred disk ends."""

_MOST_COUNTS = 65535
"""Of an unsigned 16-bit file."""


@dataclass(frozen=True)
class _Frame:
    """The detector: shape (rows, columns), scale, nominal centre (column, row)."""

    shape: tuple[int, int]
    scale_inv_angstrom: float
    center_xy: tuple[float, float]
    wavelength_angstrom: float


def render(
    q: Tensor,
    intensity: Tensor,
    conditions: Conditions,
    *,
    direct: Tensor | None = None,
    scale_inv_angstrom: float,
    center_xy: tuple[float, float],
    beam_energy_kev: float,
    shape: tuple[int, int],
) -> Tensor:
    """Expected electrons in each pixel, shape ``(b, *shape)``, float32.

    Parameters
    ----------
    q, intensity
        Spots ``(b, k, 2)``, 1/Angstrom along columns and rows, and ``(b, k)``, any unit. Padding at the end has
        intensity 0. The direct beam is not among them.
    conditions
        ``(b,)``. The dose is what arrives in the plane of the detector: what misses the frame or hits the beam stop is
        lost, beams and background keep their shares.
    direct
        The direct beam in the units of ``intensity``, ``(b,)``, as dynamical theory gives it. Default: spots share what
        ``conditions.direct_share`` leaves. Without any spot all goes to the direct beam.
    scale_inv_angstrom, center_xy
        1/Angstrom per pixel, and the nominal place (column, row) of the direct beam.
    beam_energy_kev
        Turns the convergence angle into a radius.
    shape
        Rows and columns of the detector.

    Two grains in one probe are ``weight * render(first) + (1 - weight) * render(second)``: expectations add.
    """
    frame = _Frame(shape, scale_inv_angstrom, center_xy, wavelength_angstrom(beam_energy_kev))
    images = q.new_empty((len(q), *shape), dtype=torch.float32)
    step = chunk_of(images)
    for start in range(0, len(q), step):
        part = slice(start, start + step)
        given = None if direct is None else direct[part].float()
        _render(q[part].float(), intensity[part].float(), given, conditions[part], frame, out=images[part])
    return images


def count(expected: Tensor, conditions: Conditions, index: Tensor, *, seed: int) -> Tensor:
    """Counts as a detector writes them, ``(b, h, w)``, uint16, of expected electrons and samples ``index`` ``(b,)``.

    Poisson's statistics, then gain and readout noise of the instrument, rounded and clipped to 0 ... 65535. Hot pixels
    count their own electrons instead, dead ones none; both stay where they are for all patterns of an instrument.
    """
    counts = torch.empty(expected.shape, dtype=torch.uint16, device=expected.device)
    c, pixels = conditions, expected[0].numel()
    hot = _faulty(c.instrument, c.hot_fraction, pixels, seed=seed, stream=_HOT_STREAM)
    dead = _faulty(c.instrument, c.dead_fraction, pixels, seed=seed, stream=_DEAD_STREAM)
    step = chunk_of(expected)
    for start in range(0, len(expected), step):
        part = slice(start, start + step)
        with_hot = _replace(expected[part], hot[part], c.hot_electrons[part])
        electrons = poisson(with_hot, index[part], seed=seed, stream=_COUNT_STREAM)
        written = _read_out(electrons, c[part], index[part], seed=seed)
        counts[part] = _replace(written, dead[part], torch.zeros_like(c.hot_electrons[part]))
    return counts


def _render(
    q: Tensor, intensity: Tensor, direct: Tensor | None, conditions: Conditions, frame: _Frame, *, out: Tensor
) -> None:
    """`render` of one chunk."""
    c, scale = conditions, frame.scale_inv_angstrom
    center = _center(c, frame)
    position = torch.cat([center[:, None], center[:, None] + _bend(q, c) / scale], dim=1)
    electrons = _electrons(intensity, direct, c)
    sigma2 = c.spot_sigma_px**2 + c.point_spread_sigma_px**2
    radius = c.convergence_mrad * (1e-3 / frame.wavelength_angstrom / scale)
    core = electrons * (1 - c.inelastic_share)[:, None]
    diffuse = c.dose_electrons * c.diffuse_share
    width = (1 + c.scale_error) / scale
    background = torch.stack([diffuse * (1 - c.diffuse_core_share), diffuse * c.diffuse_core_share], dim=1)
    widths = torch.stack([width * c.diffuse_width_inv_angstrom, width * c.diffuse_core_width_inv_angstrom], dim=1)
    _add_gaussians(
        torch.cat([center[:, None].expand(-1, 2, -1), position], dim=1),
        torch.cat([background, core * (radius == 0)[:, None]], dim=1),
        torch.cat([widths, sigma2.sqrt()[:, None].expand_as(core)], dim=1),
        out=out.zero_(),
    )
    if c.inelastic_share.any():
        wide = (sigma2 + c.inelastic_sigma_px**2 + radius**2 / 4).sqrt()[:, None].expand_as(core)
        _add_gaussians(position, electrons - core, wide, out=out)
    for rows in _where(radius > 0):
        disks = _disks(position[rows], core[rows], radius[rows], sigma2[rows], shape=frame.shape)
        out.index_add_(0, rows, disks)
    for rows in _where(c.ring_share > 0):
        out.index_add_(0, rows, _ring(c[rows], center[rows], frame))
    for rows in _where(c.beam_stop_radius_px > 0):
        out.index_copy_(0, rows, _beam_stop(c.beam_stop_radius_px[rows], frame) * out[rows])


def _where(mask: Tensor) -> tuple[Tensor, ...]:
    """The rows where a mask holds, once, or nothing at all where it holds nowhere."""
    rows = mask.nonzero().squeeze(1)
    return (rows,) if len(rows) else ()


def _center(conditions: Conditions, frame: _Frame) -> Tensor:
    """Where the direct beam is, ``(b, 2)``, column and row."""
    shift = torch.stack([conditions.shift_x_px, conditions.shift_y_px], dim=1)
    return shift + torch.tensor(frame.center_xy, dtype=shift.dtype, device=shift.device)


def _bend(q: Tensor, conditions: Conditions) -> Tensor:
    """Where the instrument puts the vectors ``(b, k, 2)``: larger by the scale error, stretched along an axis."""
    angle, root = torch.deg2rad(conditions.ellipse_angle_deg), conditions.ellipse_ratio.sqrt()
    larger = 1 + conditions.scale_error
    along = torch.stack([angle.cos(), angle.sin()], dim=1)[:, None]
    part = (q * along).sum(dim=2, keepdim=True) * along
    return (part * root[:, None, None] + (q - part) / root[:, None, None]) * larger[:, None, None]


def _electrons(intensity: Tensor, direct: Tensor | None, conditions: Conditions) -> Tensor:
    """Electrons of the direct beam, then of each spot, ``(b, 1 + k)``; together what background and ring leave."""
    beams = conditions.dose_electrons * (1 - conditions.diffuse_share - conditions.ring_share)
    first = torch.zeros_like(beams) if direct is None else direct
    shares = torch.cat([first[:, None], intensity], dim=1)
    most = shares.amax(dim=1, keepdim=True)
    shares = shares / torch.where(most > 0, most, 1)
    total = (shares.double() * _FIXED_POINT).round().long().sum(dim=1, keepdim=True).double() / _FIXED_POINT
    shares = (shares / total.clamp(min=1)).float()
    if direct is None:
        part = torch.where(most[:, 0] > 0, conditions.direct_share, 1.0)
        shares = torch.cat([part[:, None], shares[:, 1:] * (1 - part)[:, None]], dim=1)
    return shares * beams[:, None]


def _add_gaussians(position: Tensor, electrons: Tensor, sigma: Tensor, *, out: Tensor) -> None:
    """Add round Gaussians, each integrated over the pixels, to ``out`` ``(b, h, w)``.

    A Gaussian is a product of one along columns and one along rows, so that their sum is a matrix product.
    """
    steep = 0.5**0.5 / sigma
    columns = _integrals(position[..., 0], steep, size=out.shape[2]).mul_((electrons / 4)[..., None])
    rows = _integrals(position[..., 1], steep, size=out.shape[1]).transpose(1, 2)
    for start in range(0, electrons.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        out.baddbmm_(rows[:, :, part], columns[:, part])


def _integrals(position: Tensor, steep: Tensor, *, size: int) -> Tensor:
    """Twice the Gaussian's share in each pixel of a line, ``(b, k, size)``; ``steep`` is 1 / (sqrt(2) sigma)."""
    edges = torch.arange(size + 1, dtype=torch.float32, device=position.device) - 0.5
    below = torch.erf_((edges - position[..., None]).mul_(steep[..., None]))
    return below[..., 1:] - below[..., :-1]


def _disks(position: Tensor, electrons: Tensor, radius: Tensor, sigma2: Tensor, *, shape: tuple[int, int]) -> Tensor:
    """Sum of disks ``(b, k)`` with edges blurred along the radius, ``(b, h, w)``, each stamped and added to the image.

    The blur holds that of a pixel, 1/12 in variance, which smooths the edge. Each stamp is normalised by its own sum.
    """
    blur = (sigma2 + 1 / 12).sqrt()
    reach = radius + _DISK_REACH * blur
    half = int(reach.max().ceil()) + 1
    # a margin takes up what lies outside; whatever is further away is moved into it
    margin, size = 2 * half + 1, torch.tensor([shape[1], shape[0]], device=position.device)
    position = torch.minimum(position.clamp(min=-half - 1), size + half)
    pixel = position.round()[..., None] + torch.arange(-half, half + 1, device=position.device)
    apart = (pixel - position[..., None]).square_()
    distance = (apart[:, :, 1, :, None] + apart[:, :, 0, None, :]).sqrt_()
    radius, blur, reach = (each[:, None, None, None] for each in (radius, blur, reach))
    stamp = torch.erfc((distance - radius).div_(blur * 2**0.5)).mul_(2.0**20).round_().mul_(distance <= reach)
    factor = electrons.double() * _ELECTRON_STEPS / stamp.sum(dim=(2, 3), dtype=torch.float64)
    stamp.mul_(factor.float()[..., None, None]).round_()
    column, row = (pixel.long() + margin).unbind(dim=2)
    place = (row * (shape[1] + 2 * margin))[..., None] + column[:, :, None]
    canvas = torch.zeros((len(stamp), *(n + 2 * margin for n in shape)), dtype=torch.int64, device=stamp.device)
    canvas.view(len(stamp), -1).scatter_add_(1, place.flatten(1), stamp.long().flatten(1))
    inner = canvas[:, margin : margin + shape[0], margin : margin + shape[1]]
    return inner.float().div_(_ELECTRON_STEPS)


def _ring(conditions: Conditions, center: Tensor, frame: _Frame) -> Tensor:
    """Electrons in a ring with Gaussian profile along the radius, ``(b, h, w)``; it is bent as the spots are."""
    c, scale = conditions, frame.scale_inv_angstrom
    x, y = (
        torch.arange(size, dtype=torch.float32, device=center.device) - center[:, axis, None]
        for axis, size in ((0, frame.shape[1]), (1, frame.shape[0]))
    )
    angle = torch.deg2rad(c.ellipse_angle_deg)
    cos2, sin2, ratio = angle.cos() ** 2, angle.sin() ** 2, c.ellipse_ratio
    larger = scale / (1 + c.scale_error)
    xx, yy = cos2 / ratio + sin2 * ratio, sin2 / ratio + cos2 * ratio
    xy = angle.cos() * angle.sin() * (1 / ratio - ratio)
    square = (y**2 * yy[:, None])[:, :, None] + (x**2 * xx[:, None])[:, None]
    square += (2 * y * xy[:, None])[:, :, None] * x[:, None]
    radius, width = c.ring_radius_inv_angstrom, c.ring_width_inv_angstrom
    steep = 0.5**0.5 / width
    profile = square.clamp_(min=0).sqrt_().mul_((larger * steep)[:, None, None]).sub_((radius * steep)[:, None, None])
    around = width**2 * torch.exp(-((radius * steep) ** 2))
    around += radius * width * (torch.pi / 2) ** 0.5 * (1 + torch.erf(radius * steep))
    electrons = c.dose_electrons * c.ring_share * larger**2 / (2 * torch.pi * around)
    return profile.square_().neg_().exp_().mul_(electrons[:, None, None])


def _beam_stop(radius: Tensor, frame: _Frame) -> Tensor:
    """What a round stop at the nominal centre lets through, ``(b, h, w)``; its edge is one pixel wide."""
    x, y = (
        torch.arange(size, dtype=torch.float32, device=radius.device) - center
        for size, center in zip(frame.shape[::-1], frame.center_xy, strict=True)
    )
    distance = (y[:, None] ** 2 + x**2).sqrt_()
    return (distance - radius[:, None, None] + 0.5).clamp_(0, 1)


def _read_out(electrons: Tensor, conditions: Conditions, index: Tensor, *, seed: int) -> Tensor:
    """Counts of counted electrons ``(b, h, w)``, float32 whole numbers that fit the file."""
    gain, noise = conditions.gain_counts_per_electron, conditions.readout_noise_counts
    if (gain != 1).any():
        electrons = electrons * gain[:, None, None]
    if noise.any():
        drawn = normal(index, seed=seed, stream=_READOUT_STREAM, n=electrons[0].numel()).view_as(electrons)
        electrons = electrons + drawn * noise[:, None, None]
    return electrons.round().clamp_(0, _MOST_COUNTS)


def _faulty(instrument: Tensor, fraction: Tensor, pixels: int, *, seed: int, stream: int) -> Tensor:
    """Where the faulty pixels of instruments ``(b,)`` are, ``(b, m)``, int64; -1 where there are fewer than m."""
    number = (fraction * pixels).round().long()
    most = int(number.max())
    place = (uniform(instrument, seed=seed, stream=stream, n=most) * pixels).long().clamp_(max=pixels - 1)
    return place.masked_fill_(torch.arange(most, device=place.device) >= number[:, None], -1)


def _replace(images: Tensor, place: Tensor, value: Tensor) -> Tensor:
    """Images ``(b, h, w)`` with one value of each, ``(b,)``, at the places that are not negative, ``(b, m)``."""
    row, which = (place >= 0).nonzero(as_tuple=True)
    if not len(row):
        return images
    images = images.clone()
    images.view(len(images), -1)[row, place[row, which]] = value[row]
    return images
