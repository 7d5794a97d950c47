"""What makes a step fast on a GPU: compiled regions and captured graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..models import ELEMENTWISE, REGIONS
from . import eye

__all__ = ["Captured", "compile_regions"]

# Elementwise work on many shapes, of which one piece of code serves all.
ANY_SHAPE = (*ELEMENTWISE, (eye, "blur_rows"), (eye, "compare_maps"))


def compile_regions() -> None:
    """Compile the blocks, one by one: compiling the whole model takes minutes and gains nothing.

    Blocks of one class and shape share their code. Affects this process from here on.
    """
    torch._dynamo.config.recompile_limit = 64
    for owner, name in REGIONS:
        setattr(owner, name, torch.compile(getattr(owner, name), dynamic=False))
    for owner, name in ANY_SHAPE:
        setattr(owner, name, torch.compile(getattr(owner, name), dynamic=True))


class Captured:
    """A function without arguments, captured as a CUDA graph after three warm-up runs."""

    def __init__(self, function: Callable[[], None]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                function()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # Other threads (the pictures' readers, NCCL's watchdog) go on calling CUDA meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            function()

    def __call__(self) -> None:
        self.graph.replay()
