"""Picture to bytes and back: tiles, targets, and the file around the model's streams."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from . import pictures, zoo
from .config import QUALITIES, model_config
from .container import (
    MAX_PIXELS,
    MULTIPLE,
    ONE_TILE,
    PROFILES,
    TILE_SIDES,
    Area,
    Header,
    Tile,
    pack,
    unpack,
)
from .errors import CorruptFileError, HpcmError, ImageError, ModelMismatchError, UsageError, WeightsError
from .models import STRIDE, analyse_area, synthesise_area
from .pictures import Picture

if TYPE_CHECKING:
    from .models import HPCM, Compressed

__all__ = [
    "Analysed",
    "CodecWarning",
    "Decoded",
    "Encoded",
    "Picture",
    "Target",
    "analyse_picture",
    "decode",
    "decode_picture",
    "encode",
    "encode_picture",
    "to_rgb",
]

QUALITY_STEPS = 256
AUTOMATIC_TILE = 1024
BROKEN = 128  # the grey of a tile that is lost

# A target counts as reached within this share of it (PSNR: of its mean square error), on its safe side.
TOLERANCE = 0.01
TRIALS = 12
# By how much the logarithm of the size grows, or that of the mean square error falls, from one quality to the
# next.
SLOPE = 0.28


class CodecWarning(UserWarning):
    """Something worth knowing about a picture that was coded or decoded all the same."""


@dataclass(frozen=True)
class Target:
    """What a file should come to, one of: bits per pixel, bytes, PSNR in dB of the 8-bit picture."""

    bpp: float | None = None
    size: int | None = None
    psnr: float | None = None


@dataclass(frozen=True)
class Encoded:
    """A file, and how it came about.

    notes: what was converted or could not be reached, a line each. psnr: in dB, where it was a target.
    """

    data: bytes
    quality: float
    notes: tuple[str, ...]
    psnr: float | None = None


@dataclass(frozen=True)
class Decoded:
    """A picture, what is worth knowing of it, and a line for each tile that is broken."""

    image: Image.Image
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def encode(
    image: Picture,
    quality: float = 5,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
) -> bytes:
    """Code a picture as the bytes of a `.hpcm` file; see `encode_picture`, which can do more.

    What is converted on the way is told as a `CodecWarning`.
    """
    encoded = encode_picture(image, quality, phase, family, preset, weights, device)
    _warn(encoded.notes)
    return encoded.data


def encode_picture(
    image: Picture,
    quality: float = 5,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    tile: int | None = None,
    strip: bool = False,
    frame: int | None = None,
    target: Target | None = None,
    verify: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Encoded:
    """Code a picture as a `.hpcm` file.

    Args:
        image: a PIL picture, or a uint8 array `H x W`, or `H x W x` 2, 3 or 4 with alpha last.
        quality: 1 (smallest) to 8 (best); fractions are rounded to 1/256. A target finds its own.
        phase, family, preset: which model; `hpcmcodec.zoo.available()` lists those with weights.
        weights: a weights file to use instead of the ones that come with the package.
        device: "auto" (the CPU), "cpu" or "cuda".
        tile: side of the tiles in pixels, a multiple of 64 from 256 to 2048; 0 for a single one;
            None: 1024 for pictures above 4 megapixels.
        strip: leave metadata out. frame: which one of an animation or of several pages, from 0.
        verify: decode the file and compare the latent.
        progress: called with the share done, 0 to 1.

    Raises:
        ImageError: the picture is of a kind or size that cannot be coded.
        UsageError: an argument that does not exist or is out of range.
        WeightsError: there are no such weights, or the file is not theirs.
        HpcmError: the file did not pass `verify`.
    """
    quality = _round_quality(quality)
    wanted = _check_target(target)
    trial = _trial(image, phase, family, preset, weights, device, tile, strip, frame, progress)
    notes = list(trial.pixels.notes)
    measured: float | None = None
    if wanted:
        data, header, measured, note = _search(trial, *wanted)
        notes += note
    else:
        data, header = trial.file(quality)
    if verify:
        _verify(data, trial.model)
    return Encoded(data, header.quality, tuple(notes), measured)


class Analysed:
    """A picture analysed once, to be coded at several qualities; made by `analyse_picture`."""

    def __init__(self, trial: _Trial) -> None:
        self._trial = trial

    def encode(self, quality: float) -> Encoded:
        """The file at a quality, 1 to 8, byte for byte the one that `encode_picture` makes.

        Raises:
            UsageError: the quality is out of range.
        """
        data, header = self._trial.file(_round_quality(quality))
        return Encoded(data, header.quality, self._trial.pixels.notes)


def analyse_picture(
    image: Picture,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    tile: int | None = None,
    strip: bool = False,
    frame: int | None = None,
) -> Analysed:
    """Do once what every quality of a picture has in common, its analysis g_a above all.

    It keeps the latent, 3 to 5 bytes for each pixel. Arguments and errors are those of `encode_picture`.
    """
    trial = _trial(image, phase, family, preset, weights, device, tile, strip, frame)
    trial.keep = True
    for number in range(len(trial.header.areas)):
        trial.latent(number)
    return Analysed(trial)


def decode(data: bytes, weights: str | Path | None = None, device: str = "auto") -> Image.Image:
    """Bring the picture back from the bytes of a `.hpcm` file; see `decode_picture`, which can do more."""
    decoded = decode_picture(data, weights, device)
    _warn(decoded.notes)
    return decoded.image


def decode_picture(
    data: bytes,
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    crop: tuple[int, int, int, int] | None = None,
    partial: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Decoded:
    """Bring the picture back from the bytes of a `.hpcm` file.

    Args:
        data: the whole file.
        weights: a weights file to use instead of the ones that come with the package.
        device: as for `encode_picture`.
        crop: x, y, width and height of the part that is wanted; only the tiles it needs are decoded.
        partial: grey out what is damaged instead of refusing the file.
        progress: called with the share done, 0 to 1.

    Returns:
        The picture in the mode L, LA, RGB or RGBA, its metadata in `info`.

    Raises:
        CorruptFileError: not a `.hpcm` file, or truncated or damaged.
        UsageError: the crop is not inside the picture.
        WeightsError: the model it was made with has no weights here.
        ModelMismatchError: made with other weights, or decoded here to other symbols than were coded.
    """
    container = unpack(data, partial)
    header = container.header
    if header.profile != PROFILES[-1]:
        raise ModelMismatchError(
            f"made with {header.profile} entropy coding, which only decodes on the machine that made it and"
            " is no longer read: decode it with the version that made it, and encode it anew"
        )
    area = _crop(crop, header)
    try:
        config = model_config(header.phase, header.preset, header.family)
    except UsageError as error:  # the file's wish, not the caller's
        raise WeightsError(f"made with a model that this version does not have: {error}") from None
    model = zoo.load_model(config.phase, config.preset, config.family, weights=weights, device=device)
    notes = _check_fingerprints(header, model)
    damage = list(container.damage)
    alpha = None
    if container.alpha is not None:
        alpha, line = _alpha(container.alpha, header)
        if line and not partial:
            raise CorruptFileError(line)
        damage += [line] * bool(line)
    latents = _Latents(model, header, container.tiles, partial)
    rgb = np.empty((area.height, area.width, 3), dtype=np.uint8)
    where = area.top, area.left, area.height, area.width
    for top, left, x in synthesise_area(model, latents.read, header.quality, where, header.padded):
        _paste(rgb, top, left, _to_array(x, header.grey))
        if progress:
            progress(min(1.0, max(0, top + x.shape[2]) / area.height))
    damage += [_describe(header, number) for number in sorted(latents.broken)]
    for number in latents.broken:
        lost = header.areas[number]
        top, left = max(0, lost.top - area.top), max(0, lost.left - area.left)
        rgb[top : lost.top + lost.height - area.top, left : lost.left + lost.width - area.left] = BROKEN
    if alpha is not None:
        alpha = alpha[area.top : area.top + area.height, area.left : area.left + area.width]
    decoded = pictures.Pixels(rgb, header.grey, alpha, container.metadata, ())
    return Decoded(pictures.to_image(decoded), tuple(notes), tuple(damage))


def to_rgb(image: Picture) -> NDArray[np.uint8]:
    """The picture upright and in 8-bit colour, as a uint8 array `H x W x 3`; see `pictures.read`."""
    return pictures.read(image).rgb


class _Trial:
    """One picture, analysed once, to be coded at one quality or several."""

    def __init__(
        self, model: HPCM, header: Header, pixels: pictures.Pixels, progress: Callable[[float], None]
    ) -> None:
        self.model, self.header, self.pixels, self.progress = model, header, pixels, progress
        self.alpha = None if pixels.alpha is None else _png(pixels.alpha)
        self.latents: dict[int, torch.Tensor] = {}
        self.coded: list[Compressed] = []
        self.keep = False

    def latent(self, number: int) -> torch.Tensor:
        if number in self.latents:
            return self.latents[number]
        area = self.header.areas[number]
        where = area.top, area.left, area.height, area.width
        latent = analyse_area(self.model, self.pixels.rgb, where, self.header.padded)
        if self.keep:
            self.latents[number] = latent
        return latent

    def file(self, quality: float, keep_latents: bool = False) -> tuple[bytes, Header]:
        """The whole file."""
        header, tiles = replace(self.header, quality=quality), []
        count = len(header.areas)
        self.coded = []
        for number in range(count):
            coded = self.model.compress_latent(self.latent(number), quality)
            tiles.append(Tile(coded.z, coded.y, coded.checksum))
            if keep_latents:
                self.coded.append(coded)
            self.progress((number + 1) / count)
        return pack(header, tiles, self.alpha, self.pixels.metadata), header

    def psnr(self, quality: float) -> float:
        """Of the picture that the latest file decodes to."""
        header, rgb = self.header, self.pixels.rgb
        whole = _Latents(self.model, header, (), False)
        whole.kept = {number: coded.y_hat for number, coded in enumerate(self.coded)}
        total = 0.0
        where = 0, 0, header.height, header.width
        for top, left, x in synthesise_area(self.model, whole.read, quality, where, header.padded):
            pixels = _to_array(x, header.grey)
            part = rgb[top : top + pixels.shape[0], left : left + pixels.shape[1]].astype(np.float32)
            difference = pixels[: part.shape[0], : part.shape[1]] - part
            total += float(np.square(difference).sum(dtype=np.float64))
        return 10 * math.log10(255**2 * rgb.size / max(total, 1e-9))


def _trial(
    image: Picture,
    phase: int,
    family: str,
    preset: str,
    weights: str | Path | None,
    device: str,
    tile: int | None,
    strip: bool,
    frame: int | None,
    progress: Callable[[float], None] | None = None,
) -> _Trial:
    pixels = pictures.read(image, frame, strip)
    height, width = pixels.rgb.shape[:2]
    header = Header(family, phase, preset, QUALITIES[0], width, height, bytes(4), bytes(4), 0, pixels.grey)
    header = replace(header, tile=_tile_side(tile, header))
    model = zoo.load_model(phase, preset, family, weights=weights, device=device)
    header = replace(header, entropy_id=model.entropy_id, synthesis_id=model.synthesis_id)
    return _Trial(model, header, pixels, progress or (lambda share: None))


def _search(trial: _Trial, kind: str, goal: float) -> tuple[bytes, Header, float | None, list[str]]:
    """The file that comes nearest to a target, on its safe side where there is one there.

    The logarithms of size and mean square error are nearly straight lines over the quality, of one slope at
    first guess; once there is a value on both sides of the target, the line goes through these.
    """
    count = trial.header.width * trial.header.height
    trial.keep = True

    def miss(data: bytes, psnr: float | None) -> float:
        """How far below its target, in tolerances; half of one is aimed at, on the safe side."""
        if psnr is not None:
            return (goal - psnr) * math.log(10) / 10 / TOLERANCE + 0.5
        size = 8 * len(data) / count if kind == "bpp" else len(data)
        return math.log(goal / size) / TOLERANCE - 0.5

    best: tuple[float, bytes, Header, float | None] | None = None
    known: dict[float, float] = {}
    low, high = QUALITIES
    quality = _round_quality((low + high) / 2)
    while quality not in known and len(known) < TRIALS:
        data, header = trial.file(quality, keep_latents=kind == "psnr")
        psnr = trial.psnr(quality) if kind == "psnr" else None
        missed = known[quality] = miss(data, psnr)
        if best is None or abs(missed) < abs(best[0]):
            best = missed, data, header, psnr
        if abs(missed) <= 0.5:
            break
        low, high = (quality, high) if missed > 0 else (low, quality)
        if low == high:
            break
        if low in known and high in known:
            share = known[low] / (known[low] - known[high])
            step = (high - low) * min(0.95, max(0.05, share))
            quality = _round_quality(low + step)
        else:
            step = missed * TOLERANCE / SLOPE
            quality = _round_quality(min(high, max(low, quality + 1.2 * step)))
    assert best is not None
    missed, data, header, psnr = best
    reached = {"bpp": 8 * len(data) / count, "size": len(data), "psnr": psnr or 0.0}[kind]
    unit = {"bpp": "bpp", "size": "bytes", "psnr": "dB"}[kind]
    out_of_reach = abs(missed) * TOLERANCE > 0.03
    note = [f"{goal:g} {unit} cannot be reached: {reached:.6g} is nearest"] * out_of_reach
    return data, header, psnr, note


class _Latents:
    """The latent of a file's tiles, decoded when it is first needed and kept as long as it may be."""

    def __init__(self, model: HPCM, header: Header, tiles: Sequence[Tile | None], partial: bool) -> None:
        self.model, self.header, self.tiles, self.partial = model, header, tiles, partial
        self.kept: dict[int, torch.Tensor] = {}
        self.broken: set[int] = set()

    def read(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor | None:
        """Samples `1 x rows x columns x M` of the whole grid, None if all are lost; `top` never goes back."""
        wanted = Area(*(STRIDE * side for side in (top, left, bottom - top, right - left)))
        areas = self.header.areas
        needed = [number for number, area in enumerate(areas) if area.meets(wanted)]
        for number in [n for n in self.kept if areas[n].top + areas[n].height <= wanted.top]:
            del self.kept[number]
        for number in needed:
            if number not in self.kept and number not in self.broken:
                latent = self.decode(number)
                if latent is None:
                    self.broken.add(number)
                else:
                    self.kept[number] = latent
        if self.broken.issuperset(needed):
            return None
        channels = self.model.config.sizes.M
        device = next(self.model.parameters()).device
        y_hat = torch.zeros(1, bottom - top, right - left, channels, device=device)
        for number in needed:
            if number in self.broken:
                continue
            latent = self.kept[number]
            row, column = areas[number].top // STRIDE, areas[number].left // STRIDE
            above, west = max(top, row), max(left, column)
            below, east = min(bottom, row + latent.shape[1]), min(right, column + latent.shape[2])
            part = latent[:, above - row : below - row, west - column : east - column]
            y_hat[:, above - top : below - top, west - left : east - left] = part
        return y_hat

    def decode(self, number: int) -> torch.Tensor | None:
        """One tile, `1 x rows x columns x M`; None if it is lost, which only a partial reading allows."""
        tile, area = self.tiles[number], self.header.areas[number]
        if tile is None:
            return None
        try:
            return self.model.decompress_latent(
                tile.z, tile.y, tile.checksum, area.height, area.width, self.header.quality
            )
        except (CorruptFileError, ModelMismatchError):
            if not self.partial:
                raise
            return None


def _verify(data: bytes, model: HPCM) -> None:
    """Decode what was written; the checksum compares it with what was coded."""
    container = unpack(data)
    latents = _Latents(model, container.header, container.tiles, partial=False)
    for number in range(len(container.tiles)):
        try:
            latents.decode(number)
        except HpcmError as error:
            raise HpcmError(f"the file does not decode to what was coded (tile {number}): {error}") from error


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, CodecWarning, stacklevel=3)


def _tile_side(tile: int | None, header: Header) -> int:
    """The side of the tiles as the file keeps it, checked."""
    height, width = header.padded
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the picture is {header.width} x {header.height}: more than {MAX_PIXELS // 10**6} megapixels"
        )
    if tile is None:
        tile = AUTOMATIC_TILE if height * width > ONE_TILE else 0
    low, high = TILE_SIDES
    if tile and (not low <= tile <= high or tile % MULTIPLE):
        raise UsageError(f"a tile has a side of {low} to {high} pixels, in steps of {MULTIPLE}, not {tile}")
    if not tile and height * width > ONE_TILE:
        raise UsageError("a picture above 4 megapixels needs tiles")
    return 0 if tile >= max(height, width) else tile


def _check_target(target: Target | None) -> tuple[str, float] | None:
    """Kind and value."""
    if target is None:
        return None
    given = {name: value for name, value in vars(target).items() if value is not None}
    if len(given) != 1:
        raise UsageError("a target is one of bpp, size and PSNR")
    ((kind, value),) = given.items()
    if not 0 < value < math.inf:
        raise UsageError(f"a target is above zero, not {value:g}")
    return kind, float(value)


def _crop(crop: tuple[int, int, int, int] | None, header: Header) -> Area:
    if crop is None:
        return Area(0, 0, header.height, header.width)
    x, y, width, height = crop
    inside = x >= 0 and y >= 0 and x + width <= header.width and y + height <= header.height
    if not inside or width < 1 or height < 1:
        raise UsageError(
            f"a crop of {width} x {height} at {x}, {y} is not inside {header.width} x {header.height} pixels"
        )
    return Area(y, x, height, width)


def _describe(header: Header, number: int) -> str:
    area = header.areas[number]
    width, height = min(area.width, header.width - area.left), min(area.height, header.height - area.top)
    return f"tile {number}, {width} x {height} pixels at {area.left}, {area.top}, is lost"


def _alpha(png: bytes, header: Header) -> tuple[NDArray[np.uint8] | None, str]:
    """The alpha channel, or what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(png), formats=("PNG",))
        if image.size == (header.width, header.height) and image.mode == "L":
            return np.asarray(image), ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass
    return None, "damaged .hpcm file: its alpha channel cannot be read"


def _png(alpha: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _round_quality(quality: float) -> float:
    """To the steps the file stores, so that both sides use the same number."""
    first, last = QUALITIES
    if not first <= quality <= last:
        raise UsageError(f"quality goes from {first:g} to {last:g}, not {quality}")
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS


def _check_fingerprints(header: Header, model: HPCM) -> list[str]:
    if header.entropy_id != model.entropy_id:
        raise ModelMismatchError(
            f"made with weights {header.entropy_id.hex()}, and those here are {model.entropy_id.hex()}"
        )
    if header.synthesis_id == model.synthesis_id:
        return []
    return [f"made for another decoder ({header.synthesis_id.hex()}): the picture may differ slightly"]


def _paste(picture: NDArray[np.uint8], top: int, left: int, pixels: NDArray[np.uint8]) -> None:
    """Put pixels into the picture, as far as they lie inside."""
    pixels = pixels[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    height, width = picture.shape[0] - top, picture.shape[1] - left
    pixels = pixels[:height, :width]
    picture[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


def _to_array(x: torch.Tensor, grey: bool) -> NDArray[np.uint8]:
    """1 x 3 x H x W in [0, 1] -> H x W x 3 in 0..255; of a grey picture, the mean of the channels in each."""
    x = x.mean(1, keepdim=True).expand_as(x) if grey else x
    pixels: NDArray[np.uint8] = x[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels
