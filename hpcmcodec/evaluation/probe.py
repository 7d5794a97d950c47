"""What a codec costs a process that does nothing else: `fresh`.

Peak memory comes from `wait4`, and Linux counts to a process what the one that started it held at that time.
So there is a small process in between, which has loaded nothing; both run this module, which therefore
imports only the standard library.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Cost", "Probed", "fresh"]

ENCODE, DECODE = "encode", "decode"
UNIT = 1 if sys.platform == "darwin" else 1024  # of what the system says of memory, in bytes


class Probed(Protocol):
    """What can be probed; it travels to other processes by pickle."""

    def encode(self, pixels: NDArray[np.uint8], quality: float) -> bytes: ...

    def decode(self, data: bytes) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Cost:
    """Of one process, its start and the imports included: seconds, and most bytes resident if known."""

    seconds: float
    memory: int | None


def fresh(codec: Probed, pixels: NDArray[np.uint8], quality: float, threads: int) -> tuple[Cost, Cost] | None:
    """Encode a picture `H x W x 3` in a process of its own and decode it in another; what each of them cost.

    Before each one runs that does not count: it reads from disk what the next finds in memory.

    Returns:
        None if that failed: a codec that cannot travel, or not enough memory for a second process.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="hpcm-bench-") as name:
        folder = Path(name)
        try:
            (folder / "codec").write_bytes(pickle.dumps((codec, quality)))
            np.save(folder / "pixels.npy", pixels)
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            result = subprocess.run(
                [*_command(), str(folder)], env=environment, capture_output=True, check=True
            )
            encoding, decoding = (Cost(**cost) for cost in json.loads(result.stdout))
        except (OSError, ValueError, TypeError, AttributeError, pickle.PicklingError):
            return None
        except subprocess.CalledProcessError:
            return None
    return encoding, decoding


def _command() -> list[str]:
    return [sys.executable, "-m", "hpcmcodec.evaluation.probe"]


def _watch(folder: str) -> list[dict[str, Any]]:
    """Run the two processes, one after the other, each after a warm-up."""
    costs = []
    for task, counts in ((ENCODE, False), (ENCODE, True), (DECODE, False), (DECODE, True)):
        start = time.perf_counter()
        process = subprocess.Popen([*_command(), folder, task], stdout=subprocess.DEVNULL)
        memory = None
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            memory = usage.ru_maxrss * UNIT
        else:
            process.wait()
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(1)
        if counts:
            costs.append({"seconds": seconds, "memory": memory})
    return costs


def _work(folder: Path, task: str) -> None:
    codec, quality = pickle.loads((folder / "codec").read_bytes())
    if task == ENCODE:
        import numpy as np

        (folder / "file").write_bytes(codec.encode(np.load(folder / "pixels.npy"), quality))
    else:
        codec.decode((folder / "file").read_bytes())


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(_watch(sys.argv[1])))
    else:
        _work(Path(sys.argv[1]), sys.argv[2])
        os._exit(0)  # as the command `hpcm` does: nothing that ends with the process needs taking down
