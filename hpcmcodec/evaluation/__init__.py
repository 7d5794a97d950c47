"""Measuring the codec on real pictures and real bytes."""

from __future__ import annotations

__all__: list[str] = []
