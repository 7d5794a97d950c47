"""Entropy coding: integer tables, and rANS streams of symbols coded by them."""

from __future__ import annotations

from .rans import RansDecoder, encode
from .tables import (
    CdfTables,
    fitted_tables,
    gaussian_tables,
    generalized_gaussian_tables,
    scale_index,
    scale_table,
)

__all__ = [
    "CdfTables",
    "RansDecoder",
    "encode",
    "fitted_tables",
    "gaussian_tables",
    "generalized_gaussian_tables",
    "scale_index",
    "scale_table",
]
