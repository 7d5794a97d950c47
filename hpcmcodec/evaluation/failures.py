"""What a codec or a picture cannot do costs its own results, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import HpcmError, UsageError, WeightsError, reason

__all__ = ["NOT_THERE", "Failures", "Tell", "named", "nobody"]

Tell = Callable[[str], None]

# What was asked for does not exist: a mistake to be told before anything runs, which ends everything.
NOT_THERE = (UsageError, WeightsError)


def nobody(line: str) -> None:
    """Whom to tell where nobody listens."""


class Failures:
    """What has failed so far; `tell` hears of each at once."""

    def __init__(self, tell: Tell = nobody) -> None:
        self.tell = tell
        self.errors: list[HpcmError] = []

    @contextmanager
    def leave_out(self, what: str = "", but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Whatever goes wrong inside, `but` for these, ends here, with a line on what is left out and why.

        `what` stands before the reason where that does not say it.
        """
        try:
            yield
        except but:
            raise
        except Exception as error:
            self.errors.append(named(error, what))
            self.tell(self._line(self.errors[-1]))

    def check(self, left: object, tell: Tell = nobody) -> None:
        """Raise the first failure if there is nothing `left`; else tell them all."""
        if self.errors and not left:
            raise self.errors[0]
        for error in self.errors:
            tell(self._line(error))

    def _line(self, error: HpcmError) -> str:
        return f"left out: {error}"


def named(error: Exception, what: str) -> HpcmError:
    """An error that says what it is about; it keeps its kind if it is one of ours."""
    kind = type(error) if isinstance(error, HpcmError) else HpcmError
    made = kind(f"{what}: {reason(error)}" if what else reason(error))
    made.__cause__ = error
    return made
