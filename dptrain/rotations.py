"""Rotations in torch, on any device: quaternions, matrices, and how far two orientations are apart under symmetry.

Conventions as in ``dpcurate.orientations``, which does the same in numpy.
"""

import torch
from torch import Tensor, nn


def multiply(q1: Tensor, q2: Tensor) -> Tensor:
    """Hamilton product ``q1 * q2``, shapes ``(..., 4)`` broadcast against each other."""
    w1, x1, y1, z1 = q1.unbind(dim=-1)
    w2, x2, y2, z2 = q2.unbind(dim=-1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        dim=-1,
    )


def conjugate(q: Tensor) -> Tensor:
    """Inverse of unit quaternions, shape ``(..., 4)``."""
    return q * q.new_tensor([1.0, -1.0, -1.0, -1.0])


def to_matrix(q: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` of unit quaternions ``(..., 4)``."""
    w, x, y, z = q.unbind(dim=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def from_matrix(matrix: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)`` of rotation matrices ``(..., 3, 3)``, of either sign.

    The largest of the four squared components is taken from the diagonal, the others from it (Shepperd, J. Guidance
    and Control 1, 223, 1978), so that half turns lose no digits.
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    diagonal = torch.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], dim=-1)
    squares = torch.cat([1 + trace[..., None], 1 + 2 * diagonal - trace[..., None]], dim=-1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    w, x, y, z = squares.unbind(dim=-1)
    rows = [[w, wx, wy, wz], [wx, x, xy, xz], [wy, xy, y, yz], [wz, xz, yz, z]]
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return nn.functional.normalize(products.gather(-2, best)[..., 0, :], dim=-1)


def nearest_rotation(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation nearest to any matrix ``(..., 3, 3)``, and the matrix's singular values ``(..., 3)``.

    The last singular value is negative where the determinant is. Special orthogonal Procrustes by SVD, as Levinson et
    al., NeurIPS 2020, use it for networks.
    """
    u, values, v = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ v).sign()
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    return (u * flip[..., None, :]) @ v, values * flip


def equivalents(q: Tensor, symmetry: Tensor) -> Tensor:
    """All symmetric equivalents ``s * q``, shape ``(..., n_symmetry, 4)``."""
    return multiply(symmetry, q[..., None, :])


def squared_chord(matrix: Tensor, q: Tensor, symmetry: Tensor) -> Tensor:
    """Squared Frobenius distance of a matrix ``(..., 3, 3)`` to the nearest equivalent of ``q`` ``(..., 4)``.

    Where the matrix is a rotation it is 8 sin^2(d / 2) for a disorientation d. Its gradient is finite everywhere.
    """
    every = to_matrix(equivalents(q, symmetry))
    return (matrix[..., None, :, :] - every).square().sum(dim=(-2, -1)).amin(dim=-1)


def disorientation_deg(q1: Tensor, q2: Tensor, symmetry: Tensor) -> Tensor:
    """Smallest angle between orientations ``(..., 4)`` of one phase in degrees; not for gradients."""
    delta = multiply(q1, conjugate(q2))
    best = (delta @ conjugate(symmetry).T).abs().argmax(dim=-1)
    smallest = multiply(symmetry[best], delta)
    return torch.rad2deg(2 * torch.atan2(smallest[..., 1:].norm(dim=-1), smallest[..., 0].abs()))


def turn_quaternion(turn: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)`` of rotation vectors ``(..., 3)`` in radians."""
    half = turn.norm(dim=-1, keepdim=True) / 2
    return torch.cat([torch.cos(half), turn * torch.sinc(half / torch.pi) / 2], dim=-1)


def turn_vector(q: Tensor) -> Tensor:
    """Rotation vectors ``(..., 3)`` in radians, at most pi long, of unit quaternions ``(..., 4)``."""
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    return q[..., 1:] * torch.where(sine > 0, angle / sine.clamp_min(1e-30), 2.0)
