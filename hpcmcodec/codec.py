"""Picture to bytes and back: orientation, colour, padding, and the file around the model's two streams."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from . import zoo
from .config import QUALITIES
from .container import Header, Tile, pack, unpack
from .errors import CorruptFileError, ImageError, ModelMismatchError, UsageError, WeightsError

if TYPE_CHECKING:
    from .models.hpcm import HPCM

__all__ = ["MAX_PIXELS", "MULTIPLE", "CodecWarning", "Picture", "decode", "encode", "to_rgb"]

MULTIPLE = 64
MAX_PIXELS = 16_000_000
QUALITY_STEPS = 256

Picture = Image.Image | NDArray[np.uint8]


class CodecWarning(UserWarning):
    """Something worth knowing about a picture that was decoded all the same."""


def encode(
    image: Picture,
    quality: float = 5,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
) -> bytes:
    """Code a picture as the bytes of a `.hpcm` file.

    Args:
        image: a PIL picture, or a uint8 array `H x W x 3` or `H x W`; at most 16 megapixels.
        quality: 1 (smallest) to 8 (best); fractions are rounded to 1/256.
        phase, family, preset: which model; `hpcmcodec.zoo.available()` lists those with weights.
        weights: a weights file to use instead of the ones that come with the package.
        device: "auto", "cpu" or "cuda". What a GPU codes a CPU may be unable to decode, and the reverse,
            so auto is the CPU.

    Raises:
        ImageError: the picture is of a kind or size that cannot be coded.
        UsageError: a quality, phase, family, preset or device that does not exist.
        WeightsError: there are no such weights, or the file is not theirs.
    """
    rgb = to_rgb(image)
    height, width = rgb.shape[:2]
    quality = _round_quality(quality)
    model = zoo.load_model(phase, preset, family, weights=weights, device=_device(device))
    streams = model.compress(_to_tensor(_pad(rgb), model), quality)
    config = model.config
    header = Header(
        config.family,
        config.phase,
        config.preset,
        quality,
        width,
        height,
        model.entropy_id,
        model.synthesis_id,
    )
    return pack(header, [Tile(streams.z, streams.y, streams.checksum)])


def decode(data: bytes, weights: str | Path | None = None, device: str = "auto") -> Image.Image:
    """Bring the picture back from the bytes of a `.hpcm` file, as a PIL picture in RGB.

    Args:
        data: the whole file.
        weights: a weights file to use instead of the ones that come with the package.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".

    Raises:
        CorruptFileError: not a `.hpcm` file, or truncated or damaged.
        WeightsError: the model it was made with has no weights here.
        ModelMismatchError: made with other weights, or decoded here to other symbols than were coded.
    """
    container = unpack(data)
    header, (tile,) = container.header, container.tiles
    if header.width * header.height > MAX_PIXELS:
        raise CorruptFileError(
            f"claims a picture of {header.width} x {header.height}, over the 16 megapixels there can be"
        )
    where = _device(device)
    try:
        model = zoo.load_model(header.phase, header.preset, header.family, weights=weights, device=where)
    except UsageError as error:  # the file's wish, not the caller's
        raise WeightsError(f"made with a model that this version does not have: {error}") from None
    _check_fingerprints(header, model)
    height, width = _padded(header.height), _padded(header.width)
    x_hat = model.decompress(tile.z, tile.y, tile.checksum, height, width, header.quality)
    return Image.fromarray(_to_array(x_hat)[: header.height, : header.width])


def to_rgb(image: Picture) -> NDArray[np.uint8]:
    """The picture upright and in colour, as a uint8 array `H x W x 3`.

    Grey, palette and CMYK pictures are converted. What would be lost (transparency, more than 8 bits, further
    frames) is refused rather than dropped.

    Raises:
        ImageError: the picture is of a kind or size that cannot be coded, or cannot be read.
    """
    rgb = _from_pil(image) if isinstance(image, Image.Image) else _from_array(np.asarray(image))
    return np.ascontiguousarray(rgb)


def _from_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} cannot be coded, only of uint8")
    if array.ndim == 3 and array.shape[2] in (2, 4):
        raise ImageError(
            "the picture has an alpha channel, which cannot be coded yet: flatten or remove it first"
        )
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(f"an array of shape {array.shape} is no picture: H x W x 3 or H x W")
    _check_size(array.shape[1], array.shape[0])
    return array


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    if image.has_transparency_data:
        raise ImageError(
            "the picture has transparency, which cannot be coded yet: flatten or remove it first"
        )
    if _is_deep(image):
        raise ImageError(
            "the picture has more than 8 bits per channel, which cannot be coded yet: convert it to 8 first"
        )
    # An MPO is a phone's JPEG with previews behind the picture.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ImageError("the picture is an animation or has several pages: only single ones can be coded")
    _check_size(*image.size)
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"the picture cannot be read: {error}") from None


def _is_deep(image: Image.Image) -> bool:
    """Pillow reads 16-bit colour as 8-bit RGB without a word; only the raw mode of the file's tiles tells."""
    if image.mode.startswith(("I", "F")):
        return True
    tiles = getattr(image, "tile", ())
    if any(tile[0] == "ppm" and tile[3][1] > 255 for tile in tiles):
        return True
    raw_modes = (tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "") for tile in tiles)
    return any(";16" in str(raw_mode) for raw_mode in raw_modes)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise ImageError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(f"the picture is {width} x {height}: more than 16 megapixels cannot be coded yet")


def _round_quality(quality: float) -> float:
    """To the steps the file stores, so that both sides use the same number."""
    first, last = QUALITIES
    if not first <= quality <= last:
        raise UsageError(f"quality goes from {first:g} to {last:g}, not {quality}")
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}: choose from auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here: choose cpu or auto")
    return "cuda" if name == "cuda" else "cpu"


def _check_fingerprints(header: Header, model: HPCM) -> None:
    if header.entropy_id != model.entropy_id:
        raise ModelMismatchError(
            f"made with weights {header.entropy_id.hex()}, and those here are {model.entropy_id.hex()}"
        )
    if header.synthesis_id != model.synthesis_id:
        note = f"made for another decoder ({header.synthesis_id.hex()}): the picture may differ slightly"
        warnings.warn(note, CodecWarning, stacklevel=3)


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def _pad(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    return np.pad(rgb, ((0, _padded(height) - height), (0, _padded(width) - width), (0, 0)), mode="edge")


def _to_tensor(rgb: NDArray[np.uint8], model: HPCM) -> torch.Tensor:
    """H x W x 3 in 0..255 -> 1 x 3 x H x W in [0, 1], where the model is."""
    where = next(iter(model.parameters())).device
    return torch.from_numpy(rgb).to(where).permute(2, 0, 1)[None].float().div(255)


def _to_array(x: torch.Tensor) -> NDArray[np.uint8]:
    """1 x 3 x H x W in [0, 1] -> H x W x 3 in 0..255."""
    pixels: NDArray[np.uint8] = x[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels
