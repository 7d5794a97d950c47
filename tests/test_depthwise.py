from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcmcodec.layers.conv import depthwise as with_bias
from hpcmcodec.ops import depthwise, depthwise_reference
from tests.interpreted import needs_triton, run_interpreted

GRIDS = ((1, 1), (3, 5), (16, 16), (17, 9))


def inputs(
    grid: tuple[int, int],
    size: int = 5,
    channels: int = 5,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """x, kernel and a gradient of the output; the kernel is float32 at least."""
    seed = torch.Generator().manual_seed(1000 * grid[0] + grid[1])

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seed, dtype=torch.float64)

    x, grad = (draw(batch, *grid, channels).to(dtype) for _ in range(2))
    return [x, draw(channels, 1, size, size).to(torch.promote_types(dtype, torch.float32)), grad]


def exact_depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """The sum over taps of the kernel's tap times the picture moved by it, zeros around."""
    size = kernel.shape[-1]
    height, width = x.shape[1:3]
    around = F.pad(x, (0, 0, size // 2, size // 2, size // 2, size // 2))
    return torch.stack(
        [
            kernel[:, 0, i, j] * around[:, i : i + height, j : j + width]
            for i in range(size)
            for j in range(size)
        ]
    ).sum(0)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("grid", GRIDS)
def test_definition(grid: tuple[int, int], size: int) -> None:
    x, kernel, _ = inputs(grid, size)
    torch.testing.assert_close(depthwise(x, kernel), exact_depthwise(x, kernel))


@pytest.mark.parametrize("size", [3, 5])
def test_gradients(size: int) -> None:
    x, kernel, _ = inputs((3, 4), size, channels=2)
    assert torch.autograd.gradcheck(depthwise, (x.requires_grad_(), kernel.requires_grad_()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_types(dtype: torch.dtype, tolerance: float) -> None:
    x, kernel, grad = inputs((5, 7), dtype=dtype)
    x.requires_grad_()
    kernel.requires_grad_()
    y = depthwise(x, kernel)
    y.backward(grad)
    assert y.dtype == dtype and x.grad is not None and kernel.grad is not None
    wide_x, wide_kernel = (t.detach().double().requires_grad_() for t in (x, kernel))
    exact = exact_depthwise(wide_x, wide_kernel)
    exact.backward(grad.double())
    for actual, expected in (y, exact), (x.grad, wide_x.grad), (kernel.grad, wide_kernel.grad):
        assert expected is not None
        assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strides(dtype: torch.dtype) -> None:
    x, kernel, _ = inputs((5, 7), dtype=dtype)
    expected = depthwise(x, kernel)
    turned = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        torch.stack((x, x), -1)[..., 0],
        x.transpose(1, 2).contiguous().transpose(1, 2),
    ]
    for other in turned:
        assert not other.is_contiguous()
        y = depthwise(other, kernel.flatten(1).t().contiguous().t().view(kernel.shape))
        assert y.is_contiguous()
        torch.testing.assert_close(y, expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
@pytest.mark.parametrize("turned", [False, True])
def test_opcheck(turned: bool) -> None:
    x, kernel, grad = inputs((3, 4), 3, dtype=torch.float32)
    if turned:
        x, grad = (t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for t in (x, grad))
    torch.library.opcheck(torch.ops.hpcm.depthwise_backward.default, (x, kernel, grad))
    torch.library.opcheck(torch.ops.hpcm.depthwise.default, (x.requires_grad_(), kernel.requires_grad_()))


def test_bias_is_that_of_a_convolution() -> None:
    x, kernel, bias = (t.requires_grad_() for t in (*inputs((5, 7))[:2], torch.arange(5.0).double()))
    y = with_bias(x, kernel, bias)
    expected = F.conv2d(x.permute(0, 3, 1, 2), kernel, bias, padding=2, groups=5).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, expected)
    actual, wanted = (torch.autograd.grad(t.square().sum(), (x, kernel, bias)) for t in (y, expected))
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_op_is_the_reference() -> None:
    x, kernel, _ = inputs((16, 16), dtype=torch.float32)
    assert torch.equal(depthwise(x, kernel), depthwise_reference(x, kernel))


# Every way to launch, on pictures that fill neither strips nor tiles nor programs.
_KERNELS = """
from hpcmcodec.ops import depthwise_triton
from hpcmcodec.ops.depthwise import depthwise_backward_reference, depthwise_reference
from tests.test_depthwise import GRIDS, inputs

def compare(arguments, tolerance):
    x, kernel, grad = arguments
    exact = [t.double() for t in arguments]
    y = depthwise_triton.forward(x, kernel)
    grad_x, grad_kernel = depthwise_triton.backward(*arguments)
    assert y.dtype == grad_x.dtype == x.dtype and grad_kernel.dtype == kernel.dtype
    assert y.is_contiguous() and grad_x.is_contiguous() and grad_kernel.is_contiguous()
    check(y, depthwise_reference(*exact[:2]), tolerance)
    for a, b in zip((grad_x, grad_kernel), depthwise_backward_reference(*exact), strict=True):
        check(a, b, tolerance)

tolerances = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}
for grid in GRIDS:
    for size in (3, 5):
        compare(inputs(grid, size, batch=1), 1e-12)
for dtype, tolerance in tolerances.items():
    compare(inputs((3, 5), channels=70, batch=3, dtype=dtype), tolerance)
x, kernel, grad = inputs((3, 5))
turned = [t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for t in (x, grad)]
compare([turned[0], kernel.flatten(1).t().contiguous().t().view(kernel.shape), turned[1]], 1e-12)

for columns, sites, programs, one in (1, 4, 7, 1), (2, 1, 3, 1), (3, 2, 1, 1), (8, 4, 9, 0), (2, 2, 2, 0):
    tile = {"COLUMNS": columns, "SITES": sites, "BLOCK": 16, "num_warps": 4}
    depthwise_triton._launch_forward = lambda *shape: tile
    depthwise_triton._launch_backward = lambda *shape: (programs, tile | {"INPUT": one})
    compare(inputs((4, 7), channels=19, batch=3), 1e-12)
"""


@needs_triton
def test_triton_kernels() -> None:
    run_interpreted(_KERNELS)


def test_launches_cover_every_picture() -> None:
    launches = pytest.importorskip("hpcmcodec.ops.depthwise_triton")
    for pictures, width, channels in (1, 1, 1), (64, 16, 384), (128, 24, 384), (3, 100, 99), (2, 4, 384):
        tile = launches._launch_forward(pictures, width, channels)
        programs, both = launches._launch_backward(pictures, width, channels)
        assert tile["COLUMNS"] in launches.FORWARD and both["COLUMNS"] in launches.BACKWARD
        strips = pictures * -(-width // both["COLUMNS"])
        assert 1 <= programs <= -(-strips // both["SITES"])
