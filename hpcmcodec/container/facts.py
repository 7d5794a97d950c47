"""What a file says about itself."""

from __future__ import annotations

from typing import Any

from ..files import Source, read_source
from .layout import COLOURS, FORMAT_VERSION
from .reading import unpack

__all__ = ["describe"]


def describe(data: Source, max_pixels: int | None = None) -> dict[str, Any]:
    """Everything that a file says about itself, as a dictionary that `json.dumps` takes.

    Sizes are in bytes, ids and checksums in hexadecimal, `bits_per_pixel` counts the whole file.

    Args:
        data: the whole file: its bytes, its path or a file object opened in binary mode.
        max_pixels: as for `unpack`.

    Raises:
        CorruptFileError, LimitError, UsageError: as `unpack`.
    """
    data = read_source(data, "a .hpcm file")
    container = unpack(data, max_pixels=max_pixels)
    header = container.header
    rows, columns = header.grid
    return {
        "format_version": FORMAT_VERSION,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (header.width * header.height),
        "family": header.family,
        "phase": header.phase,
        "preset": header.preset,
        "entropy_profile": header.profile,
        "quality": header.quality,
        "width": header.width,
        "height": header.height,
        "colour": COLOURS[header.grey],
        "alpha_bytes": len(container.alpha) if container.alpha else 0,
        "metadata_bytes": {name: len(value) for name, value in container.metadata.items()},
        "tile_side": header.tile,
        "tile_rows": rows,
        "tile_columns": columns,
        "entropy_id": header.entropy_id.hex(),
        "synthesis_id": header.synthesis_id.hex(),
        "tiles": [
            {"z_bytes": len(tile.z), "y_bytes": len(tile.y), "checksum": tile.checksum.hex()}
            for tile in container.tiles
            if tile
        ],
        "chunks": [
            {"type": info.type, "critical": info.critical, "length": info.length, "crc32": f"{info.crc:08x}"}
            for info in container.layout
        ],
    }
