"""Which outputs this process is making, so that another one that skips what exists leaves them to it."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
from pathlib import Path
from types import TracebackType

__all__ = ["Claims"]


class Claims:
    """Names in the kernel, one for each output, that vanish with the process however it ends.

    Only Linux has such names (abstract sockets). Elsewhere every claim is granted, and two processes may do
    the same work, of which the first result stays.
    """

    def __init__(self) -> None:
        self._held: dict[Path, socket.socket] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for output in list(self._held):
            self.release(output)

    def take(self, output: Path) -> bool:
        """Whether no other process is making this output."""
        if sys.platform != "linux":
            return True
        digest = hashlib.sha256(os.fsencode(os.path.realpath(output))).hexdigest()
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0hpcm-{digest}")
        except OSError as error:
            claim.close()
            return error.errno != errno.EADDRINUSE
        self._held[output] = claim
        return True

    def release(self, output: Path) -> None:
        """Give a claim back, if it was taken."""
        claim = self._held.pop(output, None)
        if claim:
            claim.close()
