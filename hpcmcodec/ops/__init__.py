"""Operators with one signature and one implementation per device."""

from .biwkv import biwkv, biwkv_reference

__all__ = ["biwkv", "biwkv_reference"]
