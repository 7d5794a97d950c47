"""`hpcm decode`: `.hpcm` files to pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import container
from ..errors import HpcmError, UsageError
from ._batch import Made, Progress, perform, share_threads
from ._files import STDIO, about, open_picture, read_bytes
from ._jobs import HPCM, plan
from ._options import (
    Device,
    DeviceOption,
    Force,
    Jobs,
    Json,
    MaxPixels,
    Output,
    OutputDir,
    Recursive,
    SkipExisting,
    Threads,
    Weights,
    use_threads,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode", "parse_crop"]

Crop = tuple[int, int, int, int]


def decode(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            readable=False,
            metavar="INPUT",
            help=".hpcm files, folders of them, patterns as 'small/*'; - is standard input.",
        ),
    ],
    output: Output = None,
    output_dir: OutputDir = None,
    recursive: Recursive = False,
    format: Annotated[
        str | None,
        typer.Option(help="Type of picture, as png or jpeg.", show_default="by the output's name, else png"),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="Only this part: its left, top, width and height in pixels."),
    ] = None,
    partial_: Annotated[
        bool, typer.Option("--partial", help="Bring back what is left of a damaged file, the rest in grey.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            readable=False, metavar="ORIGINAL", help="Also say how close the picture is to this one."
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    skip_existing: SkipExisting = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode .hpcm files to pictures: PNGs beside them, or what -o, --output-dir and --format say."""
    suffix = f".{format.lower()}" if format else ".png"
    planned = plan(inputs, HPCM, suffix, output, output_dir, recursive)
    if compare and planned.several:
        raise UsageError("--compare takes one file and its original")
    processes = min(jobs, len(planned.jobs))
    work = partial(
        _decode,
        kind=_kind(planned.jobs[0].output, format),
        crop=parse_crop(crop) if crop else None,
        partial=partial_,
        max_pixels=max_pixels,
        compare=compare,
        weights=weights,
        device=device.value,
        threads=share_threads(threads, processes),
    )
    perform(
        planned,
        work,
        "decode",
        force=force,
        skip_existing=skip_existing,
        processes=processes,
        as_json=as_json,
    )


def _decode(
    source: Path,
    progress: Progress,
    *,
    kind: str,
    crop: Crop | None,
    partial: bool,
    max_pixels: int | None,
    compare: Path | None,
    weights: Path | None,
    device: str,
    threads: int | None,
) -> Made:
    data = read_bytes(source)
    original = open_picture(read_bytes(compare), compare, max_pixels) if compare else None
    with about(source):
        from .. import codec, pictures

        use_threads(threads)
        packed = container.unpack(data, partial, max_pixels)
        header = packed.header
        size = crop[2:] if crop else (header.width, header.height)
        pictures.check_format(kind, packed.alpha is not None, size)
        decoded = codec.decode_picture(
            data, weights, device, crop=crop, partial=partial, max_pixels=max_pixels, progress=progress
        )
        picture = decoded.image
        notes = list(decoded.notes)
        saved = pictures.save(picture, kind, notes)
    psnr = _psnr(original, picture, compare, crop, max_pixels) if original and compare else None
    pixels = header.width * header.height
    return Made(
        saved,
        source_bytes=len(data),
        pixels=pixels,
        bpp=8 * len(data) / pixels,
        quality=header.quality,
        psnr=psnr,
        notes=(*notes, *decoded.broken),
        says=f"{picture.width} x {picture.height}" + (f", PSNR {psnr:.2f} dB" if psnr is not None else ""),
    )


def parse_crop(text: str) -> Crop:
    """What `--crop` says: left, top, width and height in pixels."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--crop takes four whole numbers as 0,0,640,480, not {text!r}") from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"--crop takes a part inside the picture, not {text}")
    return x, y, width, height


def _kind(output: Path, format: str | None) -> str:
    """Pillow's name for the type of picture to write."""
    from .. import pictures

    if format is None and output == STDIO:
        raise UsageError(
            "standard output has no name to tell the type of picture: use --format, as --format png"
        )
    kind = pictures.kind_of(format or output.suffix)
    if not kind:
        what = f"format {format!r}" if format else f"extension {output.suffix!r} of {output}"
        names = ", ".join(each.name for each in pictures.FORMATS.values())
        raise UsageError(
            f"unknown {what}, or not one that brings a picture back as it is: choose one of {names}"
        )
    return kind


def _psnr(
    original: Image.Image, picture: Image.Image, name: Path, crop: Crop | None, max_pixels: int | None
) -> float:
    from .. import codec, metrics

    with about(name):
        pixels = codec.to_rgb(original, max_pixels)
    if crop:
        x, y, width, height = crop
        pixels = pixels[y : y + height, x : x + width]
    if pixels.shape[:2] != (picture.height, picture.width):
        raise HpcmError(
            f"{name} is {pixels.shape[1]} x {pixels.shape[0]}, so it cannot be compared with"
            f" {picture.width} x {picture.height}"
        )
    return metrics.psnr(pixels, codec.to_rgb(picture, max_pixels))
