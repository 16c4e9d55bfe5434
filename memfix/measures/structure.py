"""Where the edges of a picture are, whatever its colours: a measure that tint, brightness, blur, a small shift, a crop
or a mirror do not hide a copy from. Needs no weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from memfix.measures.pixels import SIDE, to_tensor
from memfix.thresholds import THRESHOLDS

REACH = 3  # pixels of SIDE that a copy may have been shifted by
ZOOMS = (1.0, 0.95, 0.9)  # share of a reference's side that a cropped copy of it may show
POOL = 2  # so that edges are compared at 32x32 pixels, which a blur of one or two pixels of SIDE does not empty
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
FAINT = 0.02  # length of a field under which rounding is most of what is left of a picture
SQUARES, DIRECTIONS = 8, 6  # of outlines: squares along a side, and directions of edges
BROUGHT = 8  # that outlines bring
UNSIGNED = 0.15
"""What the correlation of edges without a sign counts less: a common layout alone, as two grids of other colours have,
takes it to 0.84, and a turn of all hues by 56 degrees leaves 0.95 of it to 99 % of the bundled references."""
AT_ONCE = 64  # samples whose shifted fields are held: 21 MiB


class Structure:
    """Correlation of edges, -1 to 1, at the shift, crop and mirroring of the reference where it is highest.

    The larger of two numbers: the correlation of luminance gradients, and, less UNSIGNED, that of the directions of
    colour edges, which stays where light and dark have changed places.
    """

    name = "structure"
    side = SIDE
    higher_is_closer = True
    threshold = THRESHOLDS["bundled-structure"].value
    margin = 0.1
    identity = f"gradients at {SIDE // POOL}x{SIDE // POOL}, shifts to {REACH} of {SIDE}, zooms {ZOOMS}, mirrored"
    source = "correlation of gradients; default threshold set on the bundled model, see research/witnesses.md"

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, 3, 64, 64] uint8: the small pictures that edges are taken from, a fourth of the room of their fields."""
        return (to_tensor(images) * 255).round().to(torch.uint8)

    def compare(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n, m]; a pair takes about a tenth of a millisecond."""
        return self.among(samples, references, torch.arange(len(references)).expand(len(samples), -1))

    def pair(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n]."""
        return self.among(samples, references, torch.arange(len(samples))[:, None])[:, 0]

    def among(self, samples: torch.Tensor, references: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[n, k]: each sample against the references at its k `places`, [n, k]."""
        if not places.numel():
            return torch.empty(places.shape)
        used, at = torch.unique(places, return_inverse=True)
        small = references[used].float() / 255
        wanted = _fields_of_references(small)
        found = []
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE].float() / 255
            shifted = _shifted(light(_luminance(part))), _shifted(colour_edges(part))
            for i, own in enumerate(at[start : start + AT_ONCE]):
                signed, unsigned = (_best(s[i], w[own]) for s, w in zip(shifted, wanted, strict=True))
                found.append(torch.maximum(signed, unsigned - UNSIGNED))
        return torch.stack(found)


def light(x: torch.Tensor) -> torch.Tensor:
    """[n, 2, h, w] gradients of luminance [n, 1, h, w]."""
    return torch.cat(_gradients(x), 1)


def colour_edges(x: torch.Tensor) -> torch.Tensor:
    """[n, 2, h, w] of pictures [n, 3, h, w]: strength of edges over all channels, at twice the angle of their normal.

    So an edge counts the same whichever of its sides is the brighter one (structure tensor, Di Zenzo 1986).
    """
    across, down = _gradients(x)
    strength = (across.square() + down.square()).sum(1).add(1e-8).sqrt()
    doubled = [(across.square() - down.square()).sum(1), 2 * (across * down).sum(1)]
    return torch.stack(doubled, 1) / strength[:, None]


def _luminance(x: torch.Tensor) -> torch.Tensor:
    """[n, 1, h, w] of pictures [n, 3, h, w]."""
    return torch.einsum("nchw,c->nhw", x, LUMINANCE)[:, None]


def _gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of [n, c, h, w]; halved at its edges."""
    right, below = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    across = F.pad(right, (0, 1)) + F.pad(right, (1, 0))
    down = F.pad(below, (0, 0, 0, 1)) + F.pad(below, (0, 0, 1, 0))
    return across / 2, down / 2


def _fields_of_references(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of references [m, 3, 64, 64], what each kind of a sample's fields is held against: [m, v, d], of length one."""
    bright, own = _luminance(x), list[torch.Tensor]()
    for zoom in ZOOMS:
        field = light(_zoomed(bright, zoom))
        mirrored = field.flip(-1)
        mirrored[:, 0].neg_()
        own += [_middle(field), _middle(mirrored)]
    return torch.stack(own, 1), _middle(colour_edges(x))[:, None]


def _zoomed(x: torch.Tensor, share: float) -> torch.Tensor:
    """The middle of pictures, at their own size again."""
    if share == 1:
        return x
    edge = torch.tensor([[share, 0, 0], [0, share, 0]], dtype=x.dtype).expand(len(x), 2, 3)
    grid = F.affine_grid(edge, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _shifted(field: torch.Tensor) -> torch.Tensor:
    """[n, s, d] of fields [n, 2, 64, 64]: what lies in the middle after each of s shifts, pooled; of length one."""
    pooled, side = F.avg_pool2d(field, POOL, stride=1), field.shape[-1] - 2 * REACH
    steps = range(2 * REACH + 1)
    rows = [pooled[..., y : y + side : POOL, x : x + side : POOL].flatten(1) for y in steps for x in steps]
    return _unit(torch.stack(rows, 1))


def _middle(field: torch.Tensor) -> torch.Tensor:
    """[m, d] of fields [m, 2, 64, 64], where they are not shifted."""
    middle = field[..., REACH:-REACH, REACH:-REACH]
    return _unit(F.avg_pool2d(middle, POOL).flatten(1))


def _unit(x: torch.Tensor) -> torch.Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > FAINT, x / length.clamp_min(FAINT), 0.0)


def _best(shifted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[k] highest correlation of one sample [s, d] with references [k, v, d], over its shifts and their variants."""
    return (shifted @ wanted.flatten(0, 1).T).amax(0).view(len(wanted), -1).amax(1)


def outlines(small: torch.Tensor) -> torch.Tensor:
    """[n, 384] of features [n, 3, 64, 64], of length one (0 of blank pictures): where edges run in which direction.

    Histograms of the channel where an edge is strongest, in 8x8 overlapping cells (Dalal and Triggs, CVPR 2005). A
    shift of a few pixels or a tint leaves most of them as they are, so that they bring what structure chooses among.
    """
    across, down = _gradients(small.float() / 255)
    strength, channel = (across.square() + down.square()).sqrt().max(1, keepdim=True)
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel)) / torch.pi * DIRECTIONS
    below, rest = angle.floor(), angle - angle.floor()
    histogram = torch.zeros(len(small), DIRECTIONS, SIDE, SIDE)
    for step, weight in ((0, 1 - rest), (1, rest)):
        histogram.scatter_add_(1, (below.long() + step) % DIRECTIONS, strength * weight)
    size = SIDE // SQUARES
    pooled = F.avg_pool2d(F.pad(histogram, [size // 2] * 4), 2 * size, size)
    return F.normalize(pooled.sqrt().flatten(1), dim=1)


def alike_in_outlines(samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """[n, m] cosines of outlines, mirrored where that is closer."""
    cells = samples.view(-1, DIRECTIONS, SQUARES, SQUARES).flip(-1)
    turned = torch.tensor([-i % DIRECTIONS for i in range(DIRECTIONS)])
    return torch.maximum(samples @ references.T, cells[:, turned].flatten(1) @ references.T)
