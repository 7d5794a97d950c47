"""This process among those of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Process", "tf32"]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """On a GPU, TF32 and whatever algorithm is fastest, or neither."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32
    matmul.allow_tf32 = allowed
    try:
        with cudnn.flags(
            enabled=cudnn.enabled, benchmark=allowed, deterministic=cudnn.deterministic, allow_tf32=allowed
        ):
            yield
    finally:
        matmul.allow_tf32 = before


@dataclass(frozen=True)
class Process:
    """This process among those of the run (torchrun's environment), and its device."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def start(cls, device: str) -> Process:
        """Join the others.

        Args:
            device: cpu, cuda, or auto, which is cuda if there is one.
        """
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if wanted == "cuda":
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(place)
        else:
            place = torch.device("cpu")
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if wanted == "cuda" else "gloo")
        return cls(rank, world, place)

    @contextmanager
    def fast(self) -> Iterator[None]:
        """How a GPU trains fast; afterwards it is as the caller had it."""
        if self.device.type != "cuda":
            yield
            return
        cuda = torch.backends.cuda
        attention = cuda.cudnn_sdp_enabled()
        # Its gradients of small windows in bfloat16 are not finite (an H100, torch 2.11: 57 steps of 60).
        cuda.enable_cudnn_sdp(False)
        try:
            with tf32(True):
                yield
        finally:
            cuda.enable_cudnn_sdp(attention)

    @property
    def first(self) -> bool:
        """Whether this one speaks for all."""
        return self.rank == 0

    def mean(self, x: Tensor) -> None:
        """Replace x by its mean over the processes."""
        if self.world > 1:
            dist.all_reduce(x)
            x /= self.world

    def total(self, values: list[int]) -> list[int]:
        """Sums over the processes."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.all_reduce(shared)
        return shared.tolist()

    def agree(self, share: float, stop: bool) -> tuple[float, bool]:
        """The first process's share, and whether any process wants to stop."""
        if self.world == 1:
            return share, stop
        shared = torch.tensor([share if self.first else 0, stop], device=self.device, dtype=torch.float64)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared[0]), bool(shared[1])
