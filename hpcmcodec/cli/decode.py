"""`hpcm decode`: a `.hpcm` file to a picture."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import HpcmError, ImageError, UsageError
from ._files import STDIO, about, check_output, open_picture, read_bytes, title, write_bytes
from ._options import Device, DeviceOption, Force, Output, Threads, Weights, use_threads
from ._show import note, working

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode"]

# What a decoder hands on should lose as little as its format allows.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}


def decode(
    input: Annotated[Path, typer.Argument(metavar="INPUT", help="The .hpcm file; - is standard input.")],
    output: Output = None,
    format: Annotated[
        str | None,
        typer.Option(help="Type of picture, as png or jpeg.", show_default="by the output's name, else png"),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="ORIGINAL", help="Also say how close the picture is to this one.")
    ] = None,
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Decode a .hpcm file to a picture: a PNG beside it, or what -o names."""
    data = read_bytes(input)
    original = open_picture(compare) if compare else None
    output = output or (STDIO if input == STDIO else input.with_suffix(".png"))
    kind = _kind(output, format)
    check_output(output, input, force)

    start = time.perf_counter()
    with working("decoding"), about(input), warnings.catch_warnings(record=True) as caught:
        from .. import codec

        use_threads(threads)
        warnings.simplefilter("always", codec.CodecWarning)
        picture = codec.decode(data, weights, device.value)
    write_bytes(output, _save(picture, kind))
    seconds = time.perf_counter() - start
    for warning in caught:
        if issubclass(warning.category, codec.CodecWarning):
            note(f"hpcm: note: {title(input)}: {warning.message}")
    closeness = f", PSNR {_psnr(original, picture, compare):.2f} dB" if original and compare else ""
    note(
        f"{title(output, 'standard output')}: {picture.width} x {picture.height}{closeness}, {seconds:.1f} s"
    )


def _kind(output: Path, format: str | None) -> str:
    """Pillow's name for the type of picture to write."""
    from PIL import Image

    if format is None and output == STDIO:
        raise UsageError(
            "standard output has no name to tell the type of picture: use --format, as --format png"
        )
    suffix = f".{format.lower()}" if format else output.suffix.lower()
    kinds = Image.registered_extensions()
    kind = kinds.get(suffix, (format or "").upper())
    if kind not in Image.SAVE:
        what = f"format {format!r}" if format else f"extension {output.suffix!r} of {output}"
        raise UsageError(f"unknown {what}: choose a type of picture such as png, jpg, webp, tif, ppm")
    return kind


def _save(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, kind, **SAVE_OPTIONS.get(kind, {}))
    except (KeyError, OSError, ValueError) as error:
        raise ImageError(f"the picture cannot be written as {kind}: {error}") from error
    return buffer.getvalue()


def _psnr(original: Image.Image, picture: Image.Image, name: Path) -> float:
    from .. import codec, metrics

    with about(name):
        pixels = codec.to_rgb(original)
    if pixels.shape[:2] != (picture.height, picture.width):
        raise HpcmError(
            f"{name} is {pixels.shape[1]} x {pixels.shape[0]}, so it cannot be compared with"
            f" {picture.width} x {picture.height}"
        )
    return metrics.psnr(pixels, codec.to_rgb(picture))
