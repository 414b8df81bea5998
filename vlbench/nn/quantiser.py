"""Vector quantisation: every vector becomes the nearest code of a list, and the list follows what it is given."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.gather import gather

AT_ONCE = 16_384
"""So many vectors are compared with all codes in one go: their scores would else fill the memory."""
RECENT = 0.95
"""What a step leaves of the count of how often each code is used."""
DEAD = 0.01
"""A code that is used less than this share of what would be even is dead."""


class Quantised(NamedTuple):
    """What quantising made of N vectors."""

    vectors: Tensor
    """[N, C]: their codes' directions; a gradient passes through to what was quantised as if nothing had been done."""
    codes: Tensor
    """[N]."""
    commitment: Tensor
    """How far the vectors are from their codes: a mean of squares."""


class Quantiser(nn.Module):
    """A list of directions, of which every vector is given the nearest by cosine.

    BEiT v2 (Peng et al. 2022, arXiv 2208.06366, section 2.1; beit2/norm_ema_quantizer.py): no gradient changes the
    list. It begins as the spherical k-means of the first batch, and in training each code that was used moves
    towards the mean direction of its vectors; ``keep`` of it stays. Of our own is that a dead code begins anew at a
    vector of the batch, drawn in proportion to how badly its code fits it.
    """

    codebook: Tensor
    use: Tensor
    begun: Tensor

    def __init__(self, codes: int, width: int, *, keep: float = 0.99) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("codebook", torch.zeros(codes, width))  # of length 1 each, once it has begun
        self.register_buffer("use", torch.zeros(codes))  # how many vectors of a batch each was given lately
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, vectors: Tensor) -> Quantised:
        """Quantise vectors [N, C] of any length; in training the list then follows."""
        directions = functional.normalize(vectors, dim=-1)
        if self.training and not self.begun:
            self.begin(directions.detach())
        codes = nearest(directions, self.codebook)
        chosen = self.codebook[codes]
        commitment = functional.mse_loss(directions, chosen)
        if self.training:
            self.follow(directions.detach(), codes)
        return Quantised(directions + (chosen - directions).detach(), codes, commitment)

    def find(self, vectors: Tensor) -> Tensor:
        """Return the codes of vectors [N, C] of any length, [N]; nothing is learned."""
        return nearest(functional.normalize(vectors, dim=-1), self.codebook)

    @torch.no_grad()
    def begin(self, directions: Tensor) -> None:
        """Let the list be the means of directions [N, C]; of fewer than there are codes, some begin alike."""
        directions = gather(directions)
        self.codebook.copy_(spherical_means(directions, len(self.codebook)))
        self.use.copy_(torch.bincount(nearest(directions, self.codebook), minlength=len(self.use)))
        self.begun.fill_(True)

    @torch.no_grad()
    def follow(self, directions: Tensor, codes: Tensor) -> None:
        """Move the codes [N] that were given to directions [N, C], and let dead ones begin anew."""
        directions, codes = gather(directions), gather(codes)
        counts = torch.bincount(codes, minlength=len(self.use))
        moved = torch.lerp(self.codebook, mean_directions(directions, codes, self.codebook), 1 - self.keep)
        self.codebook.copy_(torch.where(counts[:, None] > 0, functional.normalize(moved, dim=-1), self.codebook))
        self.use.lerp_(counts.to(self.use.dtype), 1 - RECENT)
        even = len(directions) / len(self.use)
        dead = (self.use < DEAD * even).nonzero().flatten()
        if len(dead):
            misfit = (1 - (directions * self.codebook[codes]).sum(1)).clamp(min=1e-6)
            drawn = torch.multinomial(misfit, len(dead), replacement=len(dead) > len(directions))
            self.codebook[dead], self.use[dead] = directions[drawn], even

    def perplexity(self) -> float:
        """Say how many codes are in use, were all of these used alike: e to the entropy of their recent use."""
        share = self.use.double() / self.use.sum().clamp(min=1e-12)
        return float(torch.special.entr(share).sum().exp())


def nearest(directions: Tensor, codebook: Tensor) -> Tensor:
    """Return the nearest by cosine of K codes for each of N vectors, all of length 1: [N, C], [K, C] -> [N]."""
    return torch.cat([(part @ codebook.T).argmax(1) for part in torch.split(directions, AT_ONCE)])


def mean_directions(directions: Tensor, codes: Tensor, before: Tensor) -> Tensor:
    """Return the mean direction of the vectors [N, C] of each code [N]; that of before [K, C] where it has none."""
    summed = torch.zeros_like(before).index_add_(0, codes, directions.to(before.dtype))
    given = torch.bincount(codes, minlength=len(before)) > 0
    return torch.where(given[:, None], functional.normalize(summed, dim=-1), before)


def spherical_means(directions: Tensor, count: int, *, rounds: int = 10) -> Tensor:
    """Return ``count`` means of directions [N, C] by k-means with cosines, begun at some of them drawn at random."""
    known, device = len(directions), directions.device
    if known >= count:
        drawn = torch.randperm(known, device=device)[:count]
    else:
        drawn = torch.randint(known, (count,), device=device)
    means = directions[drawn]
    for _ in range(rounds):
        means = mean_directions(directions, nearest(directions, means), means)
    return means
