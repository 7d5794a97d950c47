"""This codec, as the ones that are measured beside it look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__, codec, zoo

__all__ = ["HpcmCodec", "LoadedCodec", "load"]

Pixels = NDArray[np.uint8]


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

    def load(self) -> LoadedCodec:
        """This codec with its model in memory, which stays there as long as what is returned.

        Raises:
            UsageError: there is no such model or device.
            WeightsError: it has no weights, or they are of another model.
        """
        return LoadedCodec(self)

    def analyse(self, pixels: Pixels) -> Callable[[float], bytes]:
        """What codes the picture `H x W x 3` at a quality; what all qualities have in common is done here."""
        return self.load().analyse(pixels)

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """The file of the picture `H x W x 3`; quality 1 to 8."""
        return self.load().encode(pixels, quality)

    def decode(self, data: bytes) -> Pixels:
        """The picture of a file, `H x W x 3`."""
        return self.load().decode(data)


class LoadedCodec:
    """What `HpcmCodec.load` returns: it codes as that does, and loads nothing any more."""

    def __init__(self, ours: HpcmCodec) -> None:
        self.ours = ours
        self.model = zoo.load_model(
            ours.phase, ours.preset, ours.family, weights=ours.weights, device=ours.device
        )

    def analyse(self, pixels: Pixels) -> Callable[[float], bytes]:
        analysed = codec.analyse_picture(pixels, *self._which, model=self.model)
        return lambda quality: analysed.encode(quality).data

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return self.analyse(pixels)(quality)

    def encode_to(self, pixels: Pixels, bpp: float) -> tuple[bytes, float]:
        """The file that comes nearest to a size, and its quality; see `codec.Target`."""
        target = codec.Target(bpp=bpp)
        encoded = codec.encode_picture(pixels, 5, *self._which, model=self.model, target=target)
        return encoded.data, encoded.quality

    def decode(self, data: bytes) -> Pixels:
        return codec.to_rgb(codec.decode_picture(data, model=self.model).image)

    @property
    def _which(self) -> tuple[int, str, str]:
        return self.ours.phase, self.ours.family, self.ours.preset


def load(codec: Any) -> Any:
    """A codec with all that it needs in memory: what its method `load` returns if it has one, or itself."""
    return codec.load() if hasattr(codec, "load") else codec
