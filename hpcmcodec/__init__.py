"""A learned image codec: a picture becomes a small `.hpcm` file, and comes back.

The public names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

from .errors import (
    CorruptFileError,
    HpcmError,
    ImageError,
    LimitError,
    ModelMismatchError,
    UsageError,
    WeightsError,
)

# For type checkers alone. What is imported here delays every start, so that even `typing` waits.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .codec import decode, encode
    from .container import describe as info
    from .zoo import load_model

__all__ = [
    "CorruptFileError",
    "HpcmError",
    "ImageError",
    "LimitError",
    "ModelMismatchError",
    "UsageError",
    "WeightsError",
    "__version__",
    "decode",
    "encode",
    "info",
    "load_model",
]

__version__ = "0.1.0"

_LAZY = {
    "decode": ("codec", "decode"),
    "encode": ("codec", "encode"),
    "info": ("container", "describe"),
    "load_model": ("zoo", "load_model"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
