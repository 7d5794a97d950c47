"""What an error is to the person at the command line: one line, and an exit code."""

from __future__ import annotations

import errno

from ..errors import HpcmError, reason

__all__ = ["explain"]

OUT_OF_MEMORY = "out of memory: end other programs, or encode in smaller tiles (--tile 256)"
# How torch, C++ and the dynamic linker say it, none of them in a class of its own.
_SAYS_OUT_OF_MEMORY = (
    *("out of memory", "not enough memory", "cannot allocate memory", "can't allocate memory"),
    *("you tried to allocate", "bad_alloc", "failed to map segment"),
)


def explain(error: Exception) -> tuple[str, int]:
    """A line that says what is wrong, and the exit code that goes with it."""
    if isinstance(error, HpcmError):
        return str(error), error.exit_code
    # Typer's own errors about usage; their common base has no public name in every version.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        message = error.format_message().rstrip(".")
        return message and message + hint, getattr(error, "exit_code", 2)
    if _is_out_of_memory(error):
        return OUT_OF_MEMORY, HpcmError.exit_code
    expected = isinstance(error, OSError) and error.strerror
    return reason(error) + ("" if expected else " (--debug shows where)"), HpcmError.exit_code


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    says = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(it in says for it in _SAYS_OUT_OF_MEMORY)
