"""What an error is to the person at the command line: one line, and an exit code."""

from __future__ import annotations

from ..errors import HpcmError, is_out_of_memory, reason

__all__ = ["explain"]

OUT_OF_MEMORY = "out of memory: end other programs, or encode in smaller tiles (--tile 256)"


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
    if is_out_of_memory(error):
        return OUT_OF_MEMORY, HpcmError.exit_code
    expected = isinstance(error, OSError) and error.strerror
    return reason(error) + ("" if expected else " (--debug shows where)"), HpcmError.exit_code
