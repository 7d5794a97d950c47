"""What the caller has set torch to neither reaches what is coded nor is changed by it."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpcmcodec import zoo
from hpcmcodec.ambient import fresh, reproducible
from hpcmcodec.codec import decode_picture, encode_picture
from hpcmcodec.errors import HpcmError
from hpcmcodec.models import HPCM, hpcm, schedule
from hpcmcodec.models.complexity import complexity
from tests.conftest import TINY, kodak_crop
from tests.test_imports import PACKAGE

Weights = Callable[[int], Path]
State = Callable[[], AbstractContextManager[object]]

FACTORIES = {
    *(
        "arange",
        "asarray",
        "as_tensor",
        "empty",
        "empty_permuted",
        "empty_strided",
        "eye",
        "frombuffer",
        "full",
    ),
    *("linspace", "logspace", "ones", "rand", "randint", "randn", "randperm", "scalar_tensor", "tensor"),
    *("tril_indices", "triu_indices", "zeros"),
}


def unnamed(tree: ast.AST, inside_parameter: bool = False) -> Iterator[str]:
    """Tensors that take their type or device from torch's settings, by line and name.

    Parameters may take the device: where a model is built is for its builder to say.
    """
    for node in ast.iter_child_nodes(tree):
        parameter = inside_parameter
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            parameter |= node.func.attr == "Parameter"
            if of_torch and node.func.attr in FACTORIES:
                given = {keyword.arg for keyword in node.keywords}
                if not given >= ({"dtype"} if inside_parameter else {"dtype", "device"}):
                    yield f"{node.lineno}: torch.{node.func.attr}"
        yield from unnamed(node, parameter)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_tensors_name_their_type_and_device(path: Path) -> None:
    assert not list(unnamed(ast.parse(path.read_text(encoding="utf-8"))))


def test_the_search_finds_what_it_looks_for() -> None:
    code = "torch.zeros(1)\ntorch.ones(1, dtype=d)\nnn.Parameter(torch.full(s, 1, dtype=d))\nx.new_zeros(1)"
    assert list(unnamed(ast.parse(code))) == ["1: torch.zeros", "2: torch.ones"]


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def convolutions_in_bfloat16() -> Iterator[None]:
    place: Any = torch.backends.mkldnn
    place.conv.fp32_precision = "bf16"
    try:
        yield
    finally:
        place.conv.fp32_precision = "none"


@contextmanager
def cudnn_in_float32() -> Iterator[None]:
    place: Any = torch.backends.cudnn
    before = place.conv.fp32_precision
    place.conv.fp32_precision = "ieee"
    try:
        yield
    finally:
        place.conv.fp32_precision = before


@contextmanager
def deterministic() -> Iterator[None]:
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")


@contextmanager
def flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


STATES: dict[str, State] = {
    "bfloat16": lambda: default(torch.bfloat16),
    "half": lambda: default(torch.float16),
    "float64": lambda: default(torch.float64),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no-grad": torch.no_grad,
    "grad": torch.enable_grad,
    "deterministic": deterministic,
    "flush": flushing,
}
if hasattr(torch.backends.mkldnn, "conv"):
    STATES["medium"] = lambda: precision("medium")
    STATES["convolutions"] = convolutions_in_bfloat16
    STATES["cudnn"] = cudnn_in_float32


def settings() -> tuple[object, ...]:
    """What must be afterwards as it was before."""
    backends = torch.backends
    places: list[Any] = [backends.cudnn, backends.cuda.matmul, backends.mkldnn]
    for owner in (backends.cudnn, backends.mkldnn):
        places += [getattr(owner, name) for name in ("matmul", "conv") if hasattr(owner, name)]
    return (
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_deterministic_debug_mode(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        [getattr(place, "fp32_precision", None) for place in places],
        backends.cudnn.enabled,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    )


def forget() -> None:
    """As before the first picture: whatever is kept is made anew."""
    for kept in (zoo._load, zoo._load_apart, schedule._sites, schedule._kept_mask):
        kept.cache_clear()


@pytest.fixture
def _forgotten() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("state", STATES)
def test_the_callers_torch_does_not_matter(state: str, first: bool, tiny_weights: Weights) -> None:
    """Neither where models and tables are made in that state nor where they are there already."""
    given = {"preset": "tiny", "weights": tiny_weights(4)}
    pictures = kodak_crop()[:60, :64], kodak_crop()[:64, :64, 1]
    files = [encode_picture(p, 4.3, **given).data for p in pictures]  # type: ignore[arg-type]
    pixels = [np.asarray(decode_picture(f, tiny_weights(4)).image) for f in files]
    if first:
        forget()
    with STATES[state]():
        before = settings()
        for picture, file, expected in zip(pictures, files, pixels, strict=True):
            assert encode_picture(picture, 4.3, **given, verify=True).data == file  # type: ignore[arg-type]
            assert np.array_equal(np.asarray(decode_picture(file, tiny_weights(4)).image), expected)
        assert settings() == before
    # What was made in that state is no different.
    for picture, file in zip(pictures, files, strict=True):
        assert encode_picture(picture, 4.3, **given).data == file  # type: ignore[arg-type]


def test_bfloat16_would_matter(tiny: Callable[[int], HPCM]) -> None:
    """What the states above would change if they reached the transforms."""
    x = torch.from_numpy(kodak_crop()).permute(2, 0, 1)[None].float().div(255)
    x = x[..., :64, :64]
    with torch.no_grad():
        plain = tiny(4).latent(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert not torch.equal(tiny(4).latent(x), plain)
        with torch.autocast("cpu", torch.bfloat16), reproducible():
            assert torch.equal(tiny(4).latent(x), plain)


def test_verifying_sees_what_the_callers_torch_did(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file made with a quality in bfloat16, which no other process takes it for."""
    monkeypatch.setattr(hpcm, "_as_tensor", lambda quality, device: torch.tensor([quality], device=device))
    given = {"quality": 4.3, "preset": "tiny", "weights": tiny_weights(4)}
    with default(torch.bfloat16):
        data = encode_picture(kodak_crop(), **given).data  # type: ignore[arg-type]
        decode_picture(data, tiny_weights(4))
        with pytest.raises(HpcmError, match="does not decode to what was coded"):
            encode_picture(kodak_crop(), **given, verify=True)  # type: ignore[arg-type]
    with pytest.raises(HpcmError):
        decode_picture(data, tiny_weights(4))


def test_verifying_shares_no_model_with_encoding(tiny_weights: Weights) -> None:
    """What befell the model that encodes does not befall the one that verifies."""
    given = {"preset": "tiny", "weights": tiny_weights(2)}
    model = zoo.load_model(2, **given)  # type: ignore[arg-type]
    assert zoo.load_model(2, **given) is model  # type: ignore[arg-type]
    log: Any = model.quant_step.log
    kept = log.clone()
    log.add_(0.5)
    try:
        with pytest.raises(HpcmError, match="does not decode to what was coded"):
            encode_picture(kodak_crop(), phase=2, **given, verify=True)  # type: ignore[arg-type]
    finally:
        log.copy_(kept)
    encode_picture(kodak_crop(), phase=2, **given, verify=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("context", [reproducible, fresh])
def test_threads_that_overlap(context: State) -> None:
    """The first to leave does not take the settings from the other, the last gives them back."""

    def ours() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return torch.get_default_dtype(), cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    with default(torch.float64):
        before = ours()
        entered, leave, seen = threading.Event(), threading.Event(), []

        def other() -> None:
            with context():
                entered.set()
                assert leave.wait(60)
                seen.append(ours())

        thread = threading.Thread(target=other)
        with context():
            inside = ours()
            thread.start()
            assert entered.wait(60)
        leave.set()
        thread.join()
        assert seen == [inside] and inside != before and ours() == before
    own = (torch.float32, *before[1:]) if context is fresh else (before[0], False, False, True)
    assert inside == own


def test_counting_in_any_state() -> None:
    expected = complexity(TINY[4])
    with default(torch.bfloat16), torch.device("meta"):
        assert complexity(TINY[4]) == expected
