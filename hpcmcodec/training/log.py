"""What a run tells: reports, lines of JSON, TensorBoard's curves, notes for a person."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["CURVES", "Log", "Report"]

LOG = "log.jsonl"
BOARD = "tensorboard"

# TensorBoard's curves, and what they show of a report.
CURVES = {
    "train/loss": "loss",
    "train/bpp": "bpp",
    "train/mse": "mse",
    "train/gradient_norm": "norm",
    "train/learning_rate_share": "rate",
    "train/crops_per_second": "crops_per_second",
}


@dataclass(frozen=True)
class Report:
    """Where a run stands: share done, step, seconds, crops per second, means since the last report of the
    loss, bpp, mse and the gradient's norm, and the share of the full learning rates."""

    share: float
    step: int
    seconds: float
    crops_per_second: float
    loss: float
    bpp: float
    mse: float
    norm: float
    rate: float


def _finite(value: object) -> object:
    """JSON has no word for what is no finite number: null stands for it."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Log:
    """What the first process tells of a run: lines of JSON, TensorBoard's curves, notes for a person."""

    def __init__(self, output: Path, active: bool, note: Callable[[str], None] | None) -> None:
        self.output, self.active = output, active
        self.show = note if active else None
        self.board: SummaryWriter | None = None

    def write(self, **event: object) -> None:
        """Add a line of JSON."""
        if self.active:
            with (self.output / LOG).open("a") as file:
                file.write(json.dumps(_finite(event), allow_nan=False) + "\n")

    def note(self, line: str) -> None:
        """Say something to a person."""
        if self.show:
            self.show(line)

    def open_board(self, step: int) -> None:
        """Curves that go on after `step`; what a cut run drew beyond it is dropped."""
        if not self.active:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.note("no curves: TensorBoard is not installed (pip install 'hpcmcodec[train]')")
            return
        self.board = SummaryWriter(str(self.output / BOARD), purge_step=step + 1, flush_secs=10)

    def draw(self, step: int, values: dict[str, Any]) -> None:
        """Add a point to each of some curves."""
        if self.board:
            for curve, value in values.items():
                self.board.add_scalar(curve, value, step)

    def close(self) -> None:
        """Write out the curves."""
        if self.board:
            self.board.close()
