"""How good a picture is and how one rate-distortion curve stands to another: PSNR, MS-SSIM, BD-rate."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .ambient import fresh
from .errors import HpcmError, UsageError

__all__ = ["MS_SSIM_MIN_SIDE", "bd_psnr", "bd_rate", "ms_ssim", "psnr", "require"]

Pixels = npt.NDArray[np.uint8] | Tensor
_Values = npt.NDArray[np.float64]

# Five scales with a window of 11: the coarsest must still hold one window, (11 - 1) * 2^4 + 1.
MS_SSIM_MIN_SIDE = 161

_DISTRIBUTIONS = {"pytorch_msssim": "pytorch-msssim", "bjontegaard": "bjontegaard"}


def require(module: str) -> Any:
    """Import a package of the extra `bench` ("pytorch_msssim" or "bjontegaard") when it is first needed.

    Raises:
        HpcmError: the package is not installed; the message names it and the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise HpcmError(
            f"the package {_DISTRIBUTIONS[module]} cannot be imported ({error}):"
            " install hpcmcodec with its extra 'bench'"
        ) from error


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB of two 8-bit RGB pictures: 10 log10(255^2 / MSE), the MSE over all pixels and channels.

    Args:
        a, b: uint8, H x W x 3, arrays or tensors on any device.

    Returns:
        dB; infinity when the two are equal.

    Raises:
        UsageError: not uint8, not H x W x 3, or not of one size.
    """
    a, b = _pair(a, b)
    difference = a.to(torch.int32) - b.to(torch.int32)
    mse = int(difference.square().sum(dtype=torch.int64)) / difference.numel()
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """MS-SSIM of two 8-bit RGB pictures (Wang, Simoncelli, Bovik 2003, by pytorch-msssim), mean of channels.

    Args:
        a, b: uint8, H x W x 3, arrays or tensors on any device.

    Returns:
        0..1; nan when a side is below `MS_SSIM_MIN_SIDE`, too small for the five scales.

    Raises:
        UsageError: not uint8, not H x W x 3, or not of one size.
        HpcmError: pytorch-msssim is missing.
    """
    a, b = _pair(a, b)
    package = require("pytorch_msssim")
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return math.nan
    with fresh(), torch.inference_mode():
        planes = [x.permute(2, 0, 1).unsqueeze(0).float() for x in (a, b)]  # 1 x 3 x H x W
        return float(package.ms_ssim(*planes, data_range=255))


def bd_rate(
    anchor_bpp: Sequence[float],
    anchor_psnr: Sequence[float],
    bpp: Sequence[float],
    psnr: Sequence[float],
) -> float:
    """Bjontegaard delta rate: how many per cent more bits the second curve needs for the anchor's PSNR.

    The mean difference of log(bpp), interpolated over PSNR by PCHIP, on the PSNR range both curves share
    (Bjontegaard, VCEG-M33; by the package bjontegaard). Points may come in any order.

    Args:
        anchor_bpp, anchor_psnr: the anchor's points, bits per pixel and dB.
        bpp, psnr: the points of the curve that is compared with it.

    Returns:
        per cent, negative when the second curve is the better one; nan when no PSNR range is shared.

    Raises:
        UsageError: fewer than two points, lists of unequal length, a rate that is not positive,
            a value that is not finite, or two points of one curve with the same PSNR.
        HpcmError: bjontegaard is missing.
    """
    anchor = _curve(anchor_bpp, anchor_psnr, along="psnr")
    test = _curve(bpp, psnr, along="psnr")
    package = require("bjontegaard")
    if not _overlap(anchor[1], test[1]):
        return math.nan
    return float(package.bd_rate(*anchor, *test, **_PCHIP))


def bd_psnr(
    anchor_bpp: Sequence[float],
    anchor_psnr: Sequence[float],
    bpp: Sequence[float],
    psnr: Sequence[float],
) -> float:
    """Bjontegaard delta PSNR: how many dB the second curve lies above the anchor at the same rate.

    The mean difference of PSNR, interpolated over log(bpp) by PCHIP, on the range of rates both curves share.
    Arguments and errors are those of `bd_rate`, save that the rates of one curve must differ.

    Returns:
        dB, positive when the second curve is the better one; nan when no range of rates is shared.
    """
    anchor = _curve(anchor_bpp, anchor_psnr, along="bpp")
    test = _curve(bpp, psnr, along="bpp")
    package = require("bjontegaard")
    if not _overlap(anchor[0], test[0]):
        return math.nan
    return float(package.bd_psnr(*anchor, *test, **_PCHIP))


# The package compares curves of equally many points that share three quarters of their range unless told
# otherwise; published curves rarely do.
_PCHIP: dict[str, Any] = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}


def _pair(a: Pixels, b: Pixels) -> tuple[Tensor, Tensor]:
    # A copy of what is read-only: torch warns when it is to share such memory, and Pillow's arrays are that.
    a, b = (
        x if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements=["C", "W"]))
        for x in (a, b)
    )
    for x in (a, b):
        if x.dtype != torch.uint8 or x.ndim != 3 or x.shape[2] != 3 or not x.numel():
            raise UsageError(f"an 8-bit picture of H x W x 3 is needed, not {x.dtype} of {tuple(x.shape)}")
    if a.shape != b.shape:
        raise UsageError(f"pictures of one size are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
    return a, b.to(a.device)


def _curve(bpp: Sequence[float], psnr: Sequence[float], along: str) -> tuple[_Values, _Values]:
    rates, values = np.asarray(bpp, dtype=np.float64), np.asarray(psnr, dtype=np.float64)
    if rates.ndim != 1 or rates.shape != values.shape or len(rates) < 2:
        raise UsageError(f"a curve needs two or more points, each a rate and a PSNR: {bpp!r}, {psnr!r}")
    if not (np.isfinite(rates).all() and np.isfinite(values).all() and (rates > 0).all()):
        raise UsageError(f"a curve needs positive rates and finite values: {bpp!r}, {psnr!r}")
    axis = values if along == "psnr" else rates
    order = np.argsort(axis)
    if not np.diff(axis[order]).all():
        raise UsageError(f"two points of a curve have the same {along}: {list(axis)}")
    return rates[order], values[order]


def _overlap(a: _Values, b: _Values) -> bool:
    return bool(max(a.min(), b.min()) < min(a.max(), b.max()))
