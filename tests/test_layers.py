from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcmcodec.layers import CrossAttentionCell, DWConvRB, PConvRB, RWKVBlock, RWKVContextCell
from hpcmcodec.layers.rwkv import OmniShift, SpatialMix
from hpcmcodec.ops import biwkv_reference

DIM = 64
GRIDS = ((1, 1), (5, 7), (8, 8), (9, 16))

ON_ONE = [DWConvRB(DIM), RWKVBlock(DIM, 2), SpatialMix(DIM), OmniShift(DIM)]
CELLS = [CrossAttentionCell(DIM, 4), CrossAttentionCell(DIM, 8), RWKVContextCell(DIM, 2)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def name_of(module: nn.Module) -> str:
    return type(module).__name__


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("module", [*ON_ONE, *CELLS, PConvRB(DIM)], ids=name_of)
def test_shape_is_kept(module: nn.Module, grid: tuple[int, int]) -> None:
    shape = (2, DIM, *grid) if isinstance(module, PConvRB) else (2, *grid, DIM)
    y = module(*(draw(*shape, seed=seed) for seed in range(1 + (module in CELLS))))
    assert y.shape == shape
    assert y.isfinite().all()


@pytest.mark.parametrize("module", [*ON_ONE, *CELLS, PConvRB(DIM)], ids=name_of)
def test_pictures_of_a_batch_do_not_meet(module: nn.Module) -> None:
    shape = (3, DIM, 5, 7) if isinstance(module, PConvRB) else (3, 5, 7, DIM)
    arguments = [draw(*shape, seed=seed) for seed in range(1 + (module in CELLS))]
    alone = module(*(x[1:2] for x in arguments))
    torch.testing.assert_close(module(*arguments)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_omni_shift_is_its_four_branches() -> None:
    shift = OmniShift(DIM).double()
    for p in shift.parameters():
        p.data += 0.3 * torch.rand_like(p)
    x = draw(2, 6, 5, DIM).double()
    channels_first = x.permute(0, 3, 1, 2)
    expected = shift.alpha[0] * channels_first
    for alpha, kernel in zip(shift.alpha[1:], (shift.point, shift.small, shift.large), strict=True):
        branch = F.conv2d(channels_first, kernel, padding=kernel.shape[-1] // 2, groups=DIM)
        expected = expected + alpha * branch
    torch.testing.assert_close(shift(x), expected.permute(0, 2, 3, 1))


def test_spatial_mix_reads_row_by_row() -> None:
    mix = SpatialMix(DIM)
    x = draw(1, 3, 4, DIM)
    tokens = mix.shift(x).reshape(1, 12, DIM)
    k, v, r = (tokens @ part.T for part in mix.kvr.weight.chunk(3))
    expected = (torch.sigmoid(r) * biwkv_reference(mix.decay, mix.boost, k, v)) @ mix.out.weight.T
    torch.testing.assert_close(mix(x), expected.reshape(1, 3, 4, DIM), rtol=1e-4, atol=1e-5)


def test_decay_is_bounded() -> None:
    mix = SpatialMix(DIM)
    x = draw(1, 4, 4, DIM)
    mix.decay.data.fill_(1e4)
    far = mix(x)
    mix.decay.data.fill_(8.0)
    assert torch.equal(far, mix(x))


def windowed(cell: CrossAttentionCell, x: Tensor, h: Tensor) -> Tensor:
    """Softmax attention, window by window from the top left, over the sites that there are."""
    y = torch.empty_like(x)
    w, depth = cell.window, x.shape[-1] // cell.heads
    for top in range(0, x.shape[1], w):
        for left in range(0, x.shape[2], w):
            here = (slice(None), slice(top, top + w), slice(left, left + w))
            q, k, v = (
                layer(t[here]).flatten(1, 2).unflatten(-1, (cell.heads, depth))
                for layer, t in ((cell.query, x), (cell.key, h), (cell.value, h))
            )
            weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / depth**0.5).softmax(-1)
            mixed = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
            y[here] = mixed.reshape(x[here].shape)
    return y + cell.skip(x)


@pytest.mark.parametrize("window", [4, 8])
@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (5, 7), (8, 8), (10, 14), (17, 8)])
def test_attention_stays_in_its_window(window: int, grid: tuple[int, int]) -> None:
    cell = CrossAttentionCell(DIM, window).double()
    for layer in (cell.query, cell.key):
        layer.weight.data *= 3  # attention that is far from even
    x, h = (draw(2, *grid, DIM, seed=seed).double() for seed in (1, 2))
    torch.testing.assert_close(cell(x, h), windowed(cell, x, h))


@pytest.mark.parametrize("module", [RWKVBlock, RWKVContextCell])
def test_checkpointing_changes_nothing(module: type[nn.Module]) -> None:
    torch.manual_seed(0)
    plain, saving = module(DIM, 2), module(DIM, 2, use_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    outputs, gradients, kept = [], [], []
    for model in (plain, saving):
        arguments = [
            draw(1, 4, 5, DIM, seed=s).requires_grad_() for s in range(1 + (module is RWKVContextCell))
        ]
        saved: list[int] = []

        def keep(t: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            y = model(*arguments)
        y.square().sum().backward()
        outputs.append(y)
        gradients.append([p.grad for p in (*arguments, *model.parameters())])
        kept.append(sum(saved))
    assert torch.equal(*outputs)
    for a, b in zip(*gradients, strict=True):
        assert a is not None and b is not None
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert kept[1] < kept[0] / 2
