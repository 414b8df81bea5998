"""Where words and patches are: learned positions and distances, and how these are brought to another image size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def resize_positions(table: Tensor, wanted: int, *, kept: int = 1, antialias: bool = False) -> Tensor:
    """Bring a table of positions [kept + n*n, D] to ``wanted`` rows by bicubic interpolation of its square grid.

    The first ``kept`` rows (the class token's) stay. ALBEF models/vit.py; also BLIP, METER, VLMo and BEiT-3.
    ``antialias``: with the softer kernel that open_clip (CoCa) asks for, in growing too.
    ValueError where either grid is not square.
    """
    rows, width = table.shape
    old, new = math.isqrt(rows - kept), math.isqrt(wanted - kept)
    if old * old != rows - kept or new * new != wanted - kept:
        raise ValueError(f"positions {rows} -> {wanted} (the first {kept} kept) are not square grids")
    if old == new:
        return table
    grid = table[kept:].reshape(1, old, old, width).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([table[:kept], resized.permute(0, 2, 3, 1).reshape(new * new, width).to(table.dtype)])


def fitted_positions(stored: Tensor, wanted: Tensor, *, kept: int = 1) -> Tensor | None:
    """Bring stored positions to the rows of ``wanted``; None where a width differs or a grid is not square."""
    if stored.shape[1:] != wanted.shape[1:]:
        return None
    try:
        return resize_positions(stored, len(wanted), kept=kept)
    except ValueError:
        return None


def distance_count(side: int) -> int:
    """Count the distances within a square grid of patches with a class token: rows of ``image_distances``' table."""
    return (2 * side - 1) ** 2 + 3


def image_distances(side: int) -> Tensor:
    """Number how far each patch of a square grid lies from each other (query minus key), the class token first.

    [1 + side*side, 1 + side*side] of rows in a table: (2 side - 1)^2 distances, then the class token's as query, as
    key, and to itself. Bao et al. 2022 (BEiT), after Swin (Liu et al. 2021, section 3.2).
    """
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    apart = places[:, None] - places[None, :] + side - 1  # down and right, from 0
    return _with_first_token(apart[..., 0] * (2 * side - 1) + apart[..., 1], distance_count(side) - 3)


def text_distances(longest: int) -> Tensor:
    """Number how far each word stands from each other (key minus query), the first token apart: [longest, longest].

    Rows of a table: 2 longest - 3 distances, then the first token's as query, as key, and to itself. A shorter text
    has the first rows and columns. VLMo, vlmo/modules/vlmo_module.py.
    """
    places = torch.arange(longest - 1)
    return _with_first_token(places[None, :] - places[:, None] + longest - 2, 2 * longest - 3)


def joint_distances(texts: Tensor, images: Tensor, across: int) -> Tensor:
    """Join the distances of a text [L, L] and of an image behind it [R, R]: [L + R, L + R].

    ``across``: the table's row for words that look at patches; the next is for patches that look at words.
    """
    words, patches = len(texts), len(images)
    above = torch.cat([texts, texts.new_full((words, patches), across)], dim=1)
    below = torch.cat([images.new_full((patches, words), across + 1), images], dim=1)
    return torch.cat([above, below])


def _with_first_token(distances: Tensor, free: int) -> Tensor:
    """Put a first token before distances [N, N]: rows ``free`` (it looks), + 1 (looked at), + 2 (at itself)."""
    table = torch.full([len(distances) + 1] * 2, free + 2)
    table[0, 1:], table[1:, 0], table[1:, 1:] = free, free + 1, distances
    return table


def resize_distances(table: Tensor, wanted: int, *, kept: int) -> Tensor:
    """Bring a table of image distances [n*n + kept, H] to ``wanted`` rows, as BEiT does; the last ``kept`` stay.

    Near distances matter most: those stored are laid out at 0, 1, 1 + q, 1 + q + q^2, ... so that the last one comes
    to lie where the largest new distance does, and a cubic spline through them is read at whole numbers.
    ValueError where either grid is not square, or the stored one too small for a cubic.
    """
    old, new = math.isqrt(len(table) - kept), math.isqrt(wanted - kept)
    if old * old != len(table) - kept or new * new != wanted - kept or (old < 4 and old != new):
        raise ValueError(f"distances {len(table)} -> {wanted} (the last {kept} kept) cannot be resized")
    if old == new:
        return table
    reach = _growing_steps(old // 2, new // 2)
    stored = torch.cat([-reach.flip(0), torch.zeros(1, dtype=torch.double), reach])
    asked = torch.arange(-(new // 2), new // 2 + 1).double().clamp(stored[0], stored[-1])
    spline = _spline_weights(stored, asked)
    grid = table[: old * old].double().reshape(old, old, -1)
    resized = torch.einsum("yi,xj,ijh->yxh", spline, spline, grid).flatten(0, 1)
    return torch.cat([resized.to(table.dtype), table[old * old :]])


def _growing_steps(count: int, reach: int) -> Tensor:
    """Return 1, 1 + q, 1 + q + q^2, ... [count] with the q, 1.01 to 1.5, whose last is nearest to ``reach``."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q**count) / (1 - q) > reach else (q, high)
    return torch.cumsum(q ** torch.arange(count).double(), 0)


def _spline_weights(stored: Tensor, asked: Tensor) -> Tensor:
    """Return [asked, stored]: how values at ``stored`` mix to those of the cubic spline through them at ``asked``.

    The second and the last but one place are no knots ("not a knot"), as in FITPACK.
    """
    knots = torch.cat([stored[:1].repeat(4), stored[2:-2], stored[-1:].repeat(4)])

    def basis(places: Tensor) -> Tensor:  # Cox and de Boor's recursion: [places, knots - 4]
        last = knots[:-1] == knots[-5]  # the last piece holds its right end too
        inside = (places[:, None] >= knots[:-1]) & (places[:, None] < knots[1:])
        made = (inside | (last & (places[:, None] == knots[-1]))).double() * (knots[1:] > knots[:-1])
        for degree in (1, 2, 3):
            spans = (knots[degree:] - knots[:-degree]).clamp(min=1e-300)
            rising = (places[:, None] - knots[: -degree - 1]) / spans[:-1] * made[:, :-1]
            falling = (knots[degree + 1 :] - places[:, None]) / spans[1:] * made[:, 1:]
            made = rising + falling
        return made

    weights: Tensor = torch.linalg.solve(basis(stored), basis(asked), left=False)
    return weights
