"""The entropy path with exact layers: the same traversal and parts, each layer replaced by its exact twin.

Every class takes the trained module that it stands for. State (common parameters, context, y_hat) lies on a
grid of 1/64; within a part each tensor has a grid of its own, which calibration chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossAttentionCell, DWConvRB, PConvRB, RWKVBlock, RWKVContextCell
from ..layers.exact import ExactDepthwise, ExactLinear, ExactNorm, Grid, Tables, leaky_relu
from ..layers.rwkv import DECAY_BOUND, ChannelMix, OmniShift, SpatialMix
from .context import ContextModel, SpatialPrior

__all__ = [
    "STATE_BITS",
    "ExactHyperSynthesis",
    "ExactQualityTable",
    "from_matrix",
    "replace_context",
    "to_matrix",
]

STATE_BITS = 6
LOG_STEPS = 2.0**16


def _state() -> Grid:
    return Grid(bits=STATE_BITS)


def _residual() -> Grid:
    """Of a residual stream. Errors on it add up over the blocks, so it is finer than 16 bits."""
    return Grid(wide=True)


Trained = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def to_matrix(layer: Trained) -> Tensor:
    """The weight of a linear layer or a convolution as the matrix, `rows x inputs`, of its exact twin.

    A 3x3 kernel's inputs are ordered as `_patches` gives them; a 2x2 transposed kernel has rows
    `2 x 2 x outputs`.
    """
    weight = layer.weight.detach()
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.permute(2, 3, 1, 0).flatten(0, 2)
    return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def from_matrix(layer: Trained, matrix: Tensor) -> Tensor:
    """The inverse of `to_matrix`."""
    shape = layer.weight.shape
    if isinstance(layer, nn.ConvTranspose2d):
        return matrix.view(2, 2, shape[1], shape[0]).permute(3, 2, 0, 1)
    return matrix if len(shape) == 2 else matrix.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)


def _linear(layer: Trained, parts: Sequence[int] | None = None) -> ExactLinear:
    """The twin of a layer; `step` is what a weights file gave the layer, `place` its name in the model."""
    matrix = to_matrix(layer)
    bias: Tensor | None = layer.bias
    step: Tensor | None = getattr(layer, "step", None)
    repeats = len(matrix) // len(step) if step is not None else 1
    if bias is not None:
        bias = bias.repeat(len(matrix) // len(bias))
    exact = ExactLinear(matrix, bias, None if step is None else step.flatten().repeat(repeats), parts)
    exact.place = getattr(layer, "place", "")
    return exact


def _norm(layer: nn.LayerNorm) -> ExactNorm:
    return ExactNorm(layer.weight, layer.bias)


class ExactShift(nn.Module):
    """An OmniShift as one 5x5 kernel."""

    def __init__(self, shift: OmniShift) -> None:
        super().__init__()
        self.kernel = ExactDepthwise(shift.kernel())
        self.grid = Grid()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.kernel(x, self.grid)
        return y


class ExactSpatialMix(nn.Module):
    """See `layers.rwkv.SpatialMix`."""

    w: Tensor
    u: Tensor

    def __init__(self, mix: SpatialMix, tables: Tables) -> None:
        super().__init__()
        self.shift = ExactShift(mix.shift)
        self.kvr = _linear(mix.kvr, 3 * [len(mix.decay)])
        self.key, self.value, self.gate = Grid(most=12), Grid(), Grid()
        self.register_buffer("w", mix.decay.detach().double().clamp(-DECAY_BOUND, DECAY_BOUND))
        self.register_buffer("u", mix.boost.detach().double())
        self.mixed = Grid()
        self.out = _linear(mix.out)
        self.tables = tables

    def forward(self, x: Tensor, into: Grid) -> Tensor:
        kvr = self.kvr(self.shift(x), self.shift.grid, self.key, self.value, self.gate)
        k, v, r = (part.flatten(1, 2) for part in kvr)
        y = self.tables.gated(self.tables.biwkv(self.w, self.u, k, v), r)
        mixed: Tensor = self.out(self.mixed(y).unflatten(1, x.shape[1:3]), self.mixed, into)
        return mixed


class ExactChannelMix(nn.Module):
    """See `layers.rwkv.ChannelMix`."""

    def __init__(self, mix: ChannelMix, tables: Tables) -> None:
        super().__init__()
        self.shift = ExactShift(mix.shift)
        self.kr = _linear(mix.kr, (mix.hidden, mix.value.out_features))
        self.key, self.gate = Grid(), Grid()
        self.square = Grid()
        self.value = _linear(mix.value)
        self.tables = tables

    def forward(self, x: Tensor) -> Tensor:
        k, r = self.kr(self.shift(x), self.shift.grid, self.key, self.gate)
        y: Tensor = self.value(self.square(F.relu(k).square_()), self.square)
        return self.tables.gated(y, r)


class ExactRWKVBlock(nn.Module):
    """See `layers.rwkv.RWKVBlock`."""

    gamma1: Tensor
    gamma2: Tensor

    def __init__(self, block: RWKVBlock, tables: Tables) -> None:
        super().__init__()
        self.norm1, self.normed1 = _norm(block.norm1), Grid()
        self.spatial, self.branch1 = ExactSpatialMix(block.spatial, tables), Grid()
        self.register_buffer("gamma1", block.gamma1.detach().double())
        self.middle = _residual()
        self.norm2, self.normed2 = _norm(block.norm2), Grid()
        self.channel, self.branch2 = ExactChannelMix(block.channel, tables), Grid()
        self.register_buffer("gamma2", block.gamma2.detach().double())
        self.end = _residual()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.spatial(self.normed1(self.norm1(x)), self.branch1)
        x = self.middle(branch.mul_(self.gamma1).add_(x))
        branch = self.branch2(self.channel(self.normed2(self.norm2(x))))
        y: Tensor = self.end(branch.mul_(self.gamma2).add_(x))
        return y


class ExactDWConvRB(nn.Module):
    """See `layers.conv.DWConvRB`."""

    def __init__(self, block: DWConvRB) -> None:
        super().__init__()
        self.spatial = ExactDepthwise(block.spatial.weight, block.spatial.bias)
        self.enter, self.shifted, self.hidden, self.end = Grid(), Grid(), Grid(), _residual()
        self.expand, self.project = _linear(block.expand), _linear(block.project)

    def forward(self, x: Tensor) -> Tensor:
        h = self.spatial(self.enter(x.clone()), self.shifted)
        h = self.hidden(leaky_relu(self.expand(h, self.shifted)))
        y: Tensor = self.end(self.project(h, self.hidden).add_(x))
        return y


class ExactPConvRB(nn.Module):
    """See `layers.conv.PConvRB`; NHWC."""

    def __init__(self, block: PConvRB) -> None:
        super().__init__()
        self.partial = block.partial
        self.spatial = _linear(block.spatial)
        self.expand, self.project = _linear(block.expand), _linear(block.project)
        self.convolved, self.hidden, self.end = Grid(), Grid(), Grid()

    def forward(self, x: Tensor, source: Grid) -> Tensor:
        s = self.spatial(_patches(x[..., : self.partial]), source, self.convolved)
        h = torch.cat((s, x[..., self.partial :]), -1)
        h = self.hidden(leaky_relu(self.expand(h, None)))
        y: Tensor = self.end(self.project(h, self.hidden).add_(x))
        return y


def _patches(x: Tensor) -> Tensor:
    """What a 3x3 kernel sees at each site: `B x H x W x C` to `B x H x W x 9C`."""
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    return torch.cat([padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)], -1)


class ExactUp(nn.Module):
    """A 2x2 transposed convolution of stride 2, which is one matrix product; NHWC."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.linear, self.end = _linear(layer), Grid()

    def forward(self, x: Tensor, source: Grid) -> Tensor:
        batch, height, width, _ = x.shape
        y = self.linear(x, source, self.end).view(batch, height, width, 2, 2, -1)
        return y.transpose(2, 3).reshape(batch, 2 * height, 2 * width, -1)


class ExactHyperSynthesis(nn.Module):
    """See `transforms.hyper_synthesis`: `B x N x h/4 x w/4` to `B x 2M x h x w` on the state's grid."""

    def __init__(self, h_s: nn.Sequential) -> None:
        super().__init__()
        self.enter = Grid()
        self.layers = nn.Sequential(
            *(ExactUp(m) if isinstance(m, nn.ConvTranspose2d) else ExactPConvRB(m) for m in h_s)  # type: ignore[arg-type]
        )
        self.leave = _state()

    def forward(self, z: Tensor) -> Tensor:
        x = z.permute(0, 2, 3, 1).to(torch.float64, copy=True).contiguous()
        x, source = self.enter(x), self.enter
        for layer in self.layers:
            x, source = layer(x, source), layer.end  # type: ignore[assignment]
        y: Tensor = self.leave(x).permute(0, 3, 1, 2)
        return y


class ExactContextCell(nn.Module):
    """See `layers.rwkv.RWKVContextCell`."""

    def __init__(self, cell: RWKVContextCell, tables: Tables) -> None:
        super().__init__()
        self.merge, self.merged = _linear(cell.merge), _residual()
        self.block = ExactRWKVBlock(cell.block, tables)
        self.narrow, self.out, self.leave = Grid(), _linear(cell.out), _state()

    def forward(self, *inputs: Tensor) -> Tensor:
        merged = self.block(self.merge(torch.cat(inputs, -1), self.leave, self.merged))
        y: Tensor = self.out(self.narrow(merged), self.narrow, self.leave)
        return y


class ExactAttentionCell(nn.Module):
    """See `layers.attention.CrossAttentionCell`."""

    def __init__(self, cell: CrossAttentionCell, tables: Tables) -> None:
        super().__init__()
        self.cell = (cell,)  # its windows, not its weights
        self.query, self.key, self.value = _linear(cell.query), _linear(cell.key), _linear(cell.value)
        self.skip = _linear(cell.skip)
        self.queries, self.keys, self.values, self.mixed = Grid(), Grid(), Grid(), Grid()
        self.leave = _state()
        self.tables = tables

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        cell = self.cell[0]
        pairs = ((self.query, x, self.queries), (self.key, h, self.keys), (self.value, h, self.values))
        q, k, v = (cell._windows(layer(t, self.leave, grid)) for layer, t, grid in pairs)
        scores = (q @ k.transpose(-1, -2)).mul_(1 / math.sqrt(q.shape[-1]))
        mask = cell._mask(x)
        if mask is not None:
            scores = scores.masked_fill_(~mask, float("-inf"))
        weight = self.tables.exp_minus(scores.amax(-1, keepdim=True) - scores)
        if mask is not None:
            weight = weight.masked_fill_(~mask, 0.0)
        weight = weight.mul_(2.0**20).round_()
        y = (weight @ v).div_(weight.sum(-1, keepdim=True))
        mixed = self.mixed(cell._whole(y, height, width).contiguous())
        leave: Tensor = self.leave(mixed.add_(self.skip(x, self.leave)))
        return leave


class ExactPrior(nn.Module):
    """See `context.SpatialPrior`."""

    def __init__(self, prior: SpatialPrior, block: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.branch_1 = nn.Sequential(*map(block, prior.branch_1))
        self.branch_2 = nn.Sequential(*map(block, prior.branch_2))
        self.scaled, self.narrow = _residual(), Grid()
        self.head, self.leave = _linear(prior.head), _state()

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        h = self.branch_2(self.scaled(self.branch_1(x) * q))
        y: Tensor = self.head(self.narrow(h), self.narrow, self.leave)
        return y


class ExactAdaptor(nn.Module):
    """One of the context model's adaptors; what comes in may lie beyond the state's 16 bits."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.enter, self.linear, self.leave = _state(), _linear(layer), _residual()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.enter(x), self.enter, self.leave)
        return y


class ExactFusion(nn.Module):
    """One of the context model's fusions: one matrix, or one block."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.leave = inner, _state()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.inner, ExactLinear):
            return self.inner(x, self.leave, self.leave)
        y: Tensor = self.leave(self.inner(x))
        return y


class ExactQualityTable(nn.Module):
    """See `hpcm.QualityTable`: its logarithms on a grid, so that interpolating by 256ths is exact.

    The values, `B x *shape` float64, are rounded to 16 significant bits or so by the table of exp.
    """

    log: Tensor

    def __init__(self, log: Tensor, tables: Tables) -> None:
        super().__init__()
        rounded = (log.detach().double() * LOG_STEPS).round() / LOG_STEPS
        self.register_buffer("log", rounded)
        self.tables = tables

    def forward(self, quality: Tensor) -> Tensor:
        level = torch.arange(1, len(self.log) + 1, device=quality.device, dtype=torch.float64)
        hat = (1 - (quality.double()[:, None] - level).abs()).clamp_min(0)
        return self.tables.exp((hat @ self.log.flatten(1)).unflatten(1, self.log.shape[1:]))


def replace_context(context: ContextModel, tables: Tables) -> None:
    """Put exact parts into a ContextModel, whose traversal stays as it is."""

    def block(module: nn.Module) -> nn.Module:
        if isinstance(module, RWKVBlock):
            return ExactRWKVBlock(module, tables)
        assert isinstance(module, DWConvRB)
        return ExactDWConvRB(module)

    def cell(module: nn.Module) -> nn.Module:
        if isinstance(module, RWKVContextCell):
            return ExactContextCell(module, tables)
        assert isinstance(module, CrossAttentionCell)
        return ExactAttentionCell(module, tables)

    def fusion(module: nn.Module) -> nn.Module:
        if isinstance(module, RWKVContextCell):
            return ExactContextCell(module, tables)
        return ExactFusion(_linear(module) if isinstance(module, nn.Linear) else block(module))

    context.adaptors = nn.ModuleList(ExactAdaptor(m) for m in context.adaptors)  # type: ignore[arg-type]
    context.prior = ExactPrior(context.prior, block)  # type: ignore[assignment]
    context.prior_s3 = ExactPrior(context.prior_s3, block)  # type: ignore[assignment]
    context.attn = nn.ModuleList(cell(m) for m in context.attn)
    context.fuse = nn.ModuleList(fusion(m) for m in context.fuse)
