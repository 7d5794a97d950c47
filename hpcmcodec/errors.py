"""The errors of this package; each carries the exit code that the command line ends with."""

from __future__ import annotations

import errno

__all__ = [
    "CorruptFileError",
    "HpcmError",
    "ImageError",
    "InterruptedRunError",
    "LimitError",
    "ModelMismatchError",
    "OutputExistsError",
    "UsageError",
    "WeightsError",
    "is_out_of_memory",
    "reason",
]


class HpcmError(Exception):
    """Base of every error this package raises on purpose. The message is one line for a person."""

    exit_code = 1


class ImageError(HpcmError):
    """The picture cannot be read, or is of a kind or size that cannot be coded."""


class LimitError(ImageError):
    """The picture has more pixels than the caller allows, or than a file can hold."""


class OutputExistsError(HpcmError):
    """The file to write is there already, and nobody has said that it may be replaced."""


class UsageError(HpcmError):
    """An argument is out of its range, or two arguments contradict each other."""

    exit_code = 2


class CorruptFileError(HpcmError):
    """The file is not a `.hpcm` file, or is truncated or damaged."""

    exit_code = 3


class WeightsError(HpcmError):
    """Weights are missing, damaged, or do not belong to the model that was asked for."""

    exit_code = 4


class ModelMismatchError(WeightsError):
    """The file was made with weights (or on a machine) that this decoder cannot reproduce."""


class InterruptedRunError(HpcmError):
    """A signal ended the training, which has saved what it takes to go on."""

    exit_code = 130  # of SIGINT: 128 and its number


# How torch, C++ and the dynamic linker say it, none of them in a class of its own.
_SAYS_OUT_OF_MEMORY = (
    *("out of memory", "not enough memory", "cannot allocate memory", "can't allocate memory"),
    *("you tried to allocate", "bad_alloc", "failed to map segment"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever class, says that there is too little memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    says = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(it in says for it in _SAYS_OUT_OF_MEMORY)


def reason(error: Exception) -> str:
    """What went wrong, in one line for a person."""
    text = " ".join(str(error).split())
    if isinstance(error, HpcmError) and text:
        return text
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
