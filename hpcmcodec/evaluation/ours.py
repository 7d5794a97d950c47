"""This codec, as the ones that are measured beside it look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__, codec

__all__ = ["HpcmCodec"]


@dataclass(frozen=True)
class HpcmCodec:
    """This codec with one phase; arguments as `hpcmcodec.codec.encode` takes them."""

    phase: int = 4
    family: str = "rwkv"
    preset: str = "lite"
    weights: Path | None = None
    device: str = "auto"

    @property
    def name(self) -> str:
        return f"hpcm-{self.family}-{self.phase}-{self.preset}"

    @property
    def title(self) -> str:
        return f"HPCM phase {self.phase}, {self.preset}"

    @property
    def description(self) -> str:
        return f"hpcmcodec {__version__}, family {self.family}, phase {self.phase}, preset {self.preset}"

    @property
    def settings(self) -> dict[str, Any]:
        """What distinguishes it, for programs; not the weights, which have a digest."""
        names = ("family", "phase", "preset", "device")
        return {"codec": "hpcm", **{name: getattr(self, name) for name in names}}

    def analyse(self, pixels: NDArray[np.uint8]) -> Callable[[float], bytes]:
        """What codes the picture `H x W x 3` at a quality; what all qualities have in common is done here."""
        options = (self.phase, self.family, self.preset, self.weights, self.device)
        analysed = codec.analyse_picture(pixels, *options)
        return lambda quality: analysed.encode(quality).data

    def encode(self, pixels: NDArray[np.uint8], quality: float) -> bytes:
        """The file of the picture `H x W x 3`; quality 1 to 8."""
        return self.analyse(pixels)(quality)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The picture of a file, `H x W x 3`."""
        return codec.to_rgb(codec.decode(data, self.weights, self.device))
