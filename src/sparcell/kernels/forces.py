"""Forces of t-SNE between all pairs of points, none of them approximated.

On thousands of points this takes less time than a tree that approximates them: 16 pairs are one vector, and nothing is sorted or looked up.
Suffixes: n points, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.kernels import team
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.tasks import each, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POINTS = 256
"""Points of a block."""
DIMENSIONS = 3
"""Two are taken as three, of which the last is 0: it is no slower."""


@inlined(fastmath=FAST)
def _repel(first: Any, last: Any, point_dn: Any, force_nd: Any, kernel_n: Any) -> None:
    """Σ q² (a - b) and Σ q over all points b, with q = 1 / (1 + |a - b|²); a point's q with itself is 1."""
    x_n, y_n, z_n = point_dn[0], point_dn[1], point_dn[2]
    one = x_n.dtype.type(1)
    for i in range(first, last):
        x, y, z = x_n[i], y_n[i], z_n[i]
        force_x, force_y, force_z, kernel = one - one, one - one, one - one, one - one
        for j in range(x_n.shape[0]):
            dx, dy, dz = x - x_n[j], y - y_n[j], z - z_n[j]
            q = one / (one + dx * dx + dy * dy + dz * dz)
            kernel += q
            force_x += q * q * dx
            force_y += q * q * dy
            force_z += q * q * dz
        force_nd[i, 0], force_nd[i, 1], force_nd[i, 2] = force_x, force_y, force_z
        kernel_n[i] = kernel


@inlined(fastmath=FAST)
def _attract(first: Any, last: Any, neighbours: Any, point_nd: Any, force_nd: Any) -> None:
    """Σ p q (a - b) over the neighbours b of a point."""
    start, column, p = neighbours
    for i in range(first, last):
        x, y, z = point_nd[i, 0], point_nd[i, 1], point_nd[i, 2]
        force_x, force_y, force_z = 0.0, 0.0, 0.0
        for e in range(start[i], start[i + 1]):
            j = column[e]
            dx, dy, dz = x - point_nd[j, 0], y - point_nd[j, 1], z - point_nd[j, 2]
            pull = p[e] / (1 + dx * dx + dy * dy + dz * dz)
            force_x += pull * dx
            force_y += pull * dy
            force_z += pull * dz
        force_nd[i, 0], force_nd[i, 1], force_nd[i, 2] = force_x, force_y, force_z


@inlined()
def forces(number: Any, given: Any) -> None:
    """Both of a block of points."""
    block, single_dn, point_nd, neighbours, repulsion_nd, kernel_n, attraction_nd = given
    first, last = part(number, block, kernel_n.shape[0])
    _repel(first, last, single_dn, repulsion_nd, kernel_n)
    _attract(first, last, neighbours, point_nd, attraction_nd)


@compiled()
def share_forces(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, forces, given)


def gradient(point_nd: Floats, p_nn: Any) -> tuple[Floats, float]:
    """Give a quarter of the slope of KL(P ‖ Q) in the points, and Z = Σ q over all pairs, for sparse P and up to three dimensions.

    van der Maaten & Hinton 2008, equation 5: Σ_b (p q - q²/Z)(a - b). Repulsion is taken in float32, attraction in float64.
    """
    n_points, n_dimensions = point_nd.shape
    whole_nd = np.zeros((n_points, DIMENSIONS))
    whole_nd[:, :n_dimensions] = point_nd
    single_dn = np.ascontiguousarray(whole_nd.T, np.float32)
    neighbours = p_nn.indptr, p_nn.indices, p_nn.data
    repulsion_nd, kernel_n = np.empty((n_points, DIMENSIONS), np.float32), np.empty(n_points, np.float32)
    attraction_nd = np.empty((n_points, DIMENSIONS))
    given = POINTS, single_dn, whole_nd, neighbours, repulsion_nd, kernel_n, attraction_nd
    team.share(share_forces, -(-n_points // POINTS), *given)
    total = float(kernel_n.sum(dtype=np.float64)) - n_points
    return (attraction_nd - repulsion_nd / total)[:, :n_dimensions], total
