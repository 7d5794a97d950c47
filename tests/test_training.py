from __future__ import annotations

import inspect
import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hpcmcodec import codec, zoo
from hpcmcodec.cli.train import train as train_command
from hpcmcodec.config import LAMBDAS
from hpcmcodec.errors import HpcmError, ImageError, InterruptedRunError, UsageError, WeightsError
from hpcmcodec.models import HPCM
from hpcmcodec.training import run
from hpcmcodec.training.beginning import CHECKPOINT, COUNTS
from hpcmcodec.training.data import CropSource, read_pictures
from hpcmcodec.training.drawn import drawn_pictures
from hpcmcodec.training.export import export, write_tensors
from hpcmcodec.training.log import CURVES, Log
from hpcmcodec.training.loss import draw_quality, lambda_of, rate_distortion
from hpcmcodec.training.optimizer import ALIGNMENT, FlatParameters, Optimizer, orthogonalise
from hpcmcodec.training.options import WEIGHTS, TrainOptions
from hpcmcodec.training.process import Process, tf32
from hpcmcodec.training.run import Report, train
from hpcmcodec.training.validate import validate
from tests.conftest import DATA, TINY, build_tiny, kodak_crop

CPU = torch.device("cpu")


def numbered(height: int, width: int, picture: int) -> np.ndarray:
    """Every pixel another colour: its row, its column, the number of the picture."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, picture)], -1).astype(np.uint8)


def test_crops_are_pieces_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcmcodec.training.data.RESCALED_SHARE", 0.0)
    torch.manual_seed(0)
    sizes = {1: (64, 64), 2: (70, 200), 3: (255, 64), 5: (90, 81)}
    pictures = [numbered(h, w, n) for n, (h, w) in sizes.items()] + [numbered(63, 200, 4)]
    source = CropSource(pictures, 64, CPU)
    assert source.count == len(sizes), "a picture smaller than the crop is left out"
    corners: dict[int, set[tuple[int, int]]] = {n: set() for n in sizes}
    orientations = set()
    batch = source.batch(600)
    assert batch.shape == (600, 3, 64, 64)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for crop in batch.mul(255).round().int():
        rows, columns, number = crop
        (which,) = set(number.flatten().tolist())
        transposed = bool(rows[0, 0] == rows[1, 0])
        if transposed:
            rows, columns = rows.T, columns.T
        top, left = int(rows.min()), int(columns.min())
        upside_down, mirrored = bool(rows[0, 0] != top), bool(columns[0, 0] != left)
        line = torch.arange(64)
        assert torch.equal(
            rows, (top + (line.flip(0) if upside_down else line))[:, None].expand(64, 64).int()
        )
        assert torch.equal(columns, (left + (line.flip(0) if mirrored else line)).expand(64, 64).int())
        height, width = sizes[which]
        assert top + 64 <= height and left + 64 <= width
        corners[which].add((top, left))
        orientations.add((transposed, upside_down, mirrored))
    assert len(orientations) == 8
    assert {top for top, _ in corners[2]} == set(range(7)), "every place is drawn, the last one too"
    assert min(left for _, left in corners[2]) < 9 and max(left for _, left in corners[2]) > 127
    assert corners[1] == {(0, 0)}


def test_crops_of_rescaled_copies() -> None:
    """Of one colour a picture, any mix of two would show."""
    torch.manual_seed(0)
    pictures = [np.full((200, 150 + n, 3), 10 * n, np.uint8) for n in range(1, 6)]
    source = CropSource(pictures, 64, CPU)
    assert source.smaller == source.count == 5
    assert len(source.pixels) < 2 * sum(p.size // 3 for p in pictures)
    colours = source.batch(200).mul(255).round().flatten(1)
    assert torch.equal(colours.amin(1), colours.amax(1))
    assert set(colours[:, 0].tolist()) == {10.0, 20.0, 30.0, 40.0, 50.0}
    with pytest.raises(ImageError, match="256 x 256"):
        CropSource(pictures, 256, CPU)


def test_pictures_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    with pytest.raises(ImageError, match="no readable picture"):
        read_pictures([folder])
    with pytest.raises(ImageError, match="neither a folder"):
        read_pictures([tmp_path / "nothing"])
    Image.fromarray(numbered(5, 6, 0)).save(folder / "a.png")
    Image.fromarray(numbered(6, 7, 1)).convert("L").save(folder / "deeper" / "b.PNG")
    Image.fromarray(numbered(7, 8, 2)).save(folder / "c.webp", lossless=True)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        tar.add(folder, "")
    for path in (folder, tmp_path / "pictures.tar"):
        pictures = read_pictures([path])
        assert [Path(name).name for name in pictures.names] == ["a.png", "c.webp", "b.PNG"]
        assert pictures.unreadable == 2
        assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in pictures.pixels)
        np.testing.assert_array_equal(pictures.pixels[0], numbered(5, 6, 0))
        np.testing.assert_array_equal(pictures.pixels[1], numbered(7, 8, 2))
        assert read_pictures([path], exclude=frozenset({"a", "cut"})).names == pictures.names[1:]
    shares = [read_pictures([DATA], rank=rank, world=2).names for rank in range(2)]
    assert sorted(name for share in shares for name in share) == sorted(read_pictures([DATA]).names)
    assert all(shares)


def test_pictures_are_drawn() -> None:
    photos = [numbered(100, 90, 0), numbered(70, 80, 1)]
    drawn = drawn_pictures(20, photos, seed=1)
    assert len(drawn) == 20
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 and p.flags.c_contiguous for p in drawn)
    for one, again in zip(drawn, drawn_pictures(20, photos, seed=1), strict=True):
        np.testing.assert_array_equal(one, again)
    assert any(
        (one != other).any() for one, other in zip(drawn[:4], drawn_pictures(4, photos, 2), strict=True)
    )
    foreign = drawn[4::5]  # photographs in other colours, never as they were
    assert {p.shape for p in foreign} <= {p.shape for p in photos}
    assert not any(p.shape == q.shape and (p == q).all() for p in foreign for q in photos)
    assert all(p.std() > 5 for p in drawn)  # none is left empty
    assert drawn_pictures(0, photos) == []


def test_lambda() -> None:
    integers = torch.arange(1.0, len(LAMBDAS) + 1)
    torch.testing.assert_close(lambda_of(integers), torch.tensor(LAMBDAS))
    between = lambda_of(torch.tensor([1.5, 7.25]))
    expected = [math.sqrt(LAMBDAS[0] * LAMBDAS[1]), LAMBDAS[6] ** 0.75 * LAMBDAS[7] ** 0.25]
    torch.testing.assert_close(between, torch.tensor(expected))


def test_qualities_drawn() -> None:
    torch.manual_seed(0)
    quality = draw_quality(4000, CPU)
    assert quality.min() >= 1 and quality.max() <= len(LAMBDAS)
    integers = quality[::2]
    assert torch.equal(integers, integers.round())
    counts = torch.bincount(integers.long(), minlength=len(LAMBDAS) + 1)[1:]
    assert (counts > 180).all(), "each is as likely as the others"
    others = quality[1::2]
    assert float((others % 1 != 0).float().mean()) > 0.99
    assert others.min() < 1.05 and others.max() > 7.95


def test_rate_distortion() -> None:
    x, x_hat = torch.zeros(2, 3, 4, 8), torch.full((2, 3, 4, 8), 2 / 255)
    likelihood = torch.full((2, 32), 0.25), torch.full((2, 4, 2, 2), 0.5)
    result = rate_distortion(x, torch.tensor([1.0, 8.0]), x_hat, *likelihood)
    torch.testing.assert_close(result["mse"], torch.full((2,), 4.0))
    torch.testing.assert_close(result["bpp"], torch.full((2,), 2.0 + 16 / 32))
    torch.testing.assert_close(result["rd"], 2.5 + 4 * torch.tensor([LAMBDAS[0], LAMBDAS[-1]]))
    assert result["loss"].shape == ()


def test_one_picture_does_not_outweigh_the_batch() -> None:
    """The loss of an exploding picture counts as four medians, the others' as it is."""
    x, quality = torch.zeros(5, 3, 4, 4), torch.full((5,), 4.0)
    likelihood = torch.full((5, 16), 0.5), torch.full((5, 4), 0.5)
    x_hat = torch.full_like(x, 0.01, requires_grad=True)
    usual = rate_distortion(x, quality, x_hat, *likelihood)["loss"]
    (gradient,) = torch.autograd.grad(usual, x_hat)
    scale = torch.ones(5, 1, 1, 1)
    scale[2] = 1000
    exploded = rate_distortion(x, quality, x_hat * scale, *likelihood)["loss"]
    torch.testing.assert_close(exploded, usual * (4 + 4) / 5)
    (with_it,) = torch.autograd.grad(exploded, x_hat)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(with_it[others], gradient[others])
    assert with_it[2].norm() < 2 * 4 * usual / 0.01


def test_flat_parameters() -> None:
    model = HPCM(TINY[4]).to(memory_format=torch.channels_last)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    flat = FlatParameters(model.named_parameters())
    parameters = dict(model.named_parameters())
    assert sorted(flat.names) == sorted(parameters)
    count = sum(p.numel() for p in parameters.values())
    assert count <= len(flat.data) < count + ALIGNMENT * len(parameters)
    for name, p in parameters.items():
        assert torch.equal(p, before[name])
        assert p.grad is not None and p.grad.shape == p.shape and not p.grad.any()
    flat.data.copy_(torch.arange(len(flat.data)))
    flat.grad.copy_(flat.data)
    values = torch.cat([parameters[name].detach().flatten() for name in flat.names])
    assert len(values.unique()) == len(values) == count, "each place is at most one parameter's"
    first = 0
    for name in flat.names:
        p = parameters[name]
        assert p.grad is not None and torch.equal(p.grad, p)
        assert p.grad.stride() == p.stride(), "else autograd would copy"
        assert p.dim() < 4 or p.is_contiguous(memory_format=torch.channels_last)
        assert first <= int(p.min()) < first + ALIGNMENT and int(p.min()) % ALIGNMENT == 0
        first = int(p.min()) + p.numel()
    matrices = sum(rows * columns * len(places) for (rows, columns), places in flat.shapes.items())
    assert 0.8 * len(flat.data) < matrices <= flat.matrices
    assert not any(
        name.startswith(("gain_", "quant_step"))
        for name in flat.names
        if parameters[name].min() < flat.matrices
    )


@pytest.mark.parametrize("shape", [(3, 32, 64), (2, 96, 32), (1, 48, 48)])
def test_orthogonalise(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = orthogonalise(x)
    assert y.shape == shape
    singular = torch.linalg.svdvals(y)
    spread = torch.linalg.svdvals(x)
    usual = spread / spread.norm(dim=1, keepdim=True) > 1e-2
    assert singular[usual].min() > 0.7 and singular.max() < 1.3
    # Semi-orthogonal, and along x, not merely of such singular values.
    assert ((x * y).sum((1, 2)) / spread.sum(1) > 0.9).all()
    torch.testing.assert_close(orthogonalise(1e4 * x), y, rtol=1e-3, atol=1e-4)


def small_model() -> tuple[nn.Module, FlatParameters, Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 64), nn.LayerNorm(64), nn.Linear(64, 40))
    flat = FlatParameters(model.named_parameters())
    optimizer = Optimizer(flat, 0.02, 0.01)
    optimizer.schedule(1.0, 0.9)
    return model, flat, optimizer


def test_optimizer_learns() -> None:
    model, flat, optimizer = small_model()
    x = torch.randn(256, 40)
    losses = []
    for _ in range(60):
        flat.grad.zero_()
        loss = (model(x) - x.flip(1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert 0 < (optimizer.ema - flat.data).norm() < 0.2 * flat.data.norm()


def test_matrices_decay() -> None:
    """By rate times decay in a step, and nothing else does."""
    _, flat, optimizer = small_model()
    optimizer.matrix_decay = 0.5
    before = flat.data.clone()
    optimizer.step()
    cut = flat.matrices
    torch.testing.assert_close(flat.data[:cut], before[:cut] * (1 - 0.02 * 0.5))
    assert torch.equal(flat.data[cut:], before[cut:])


def test_a_gradient_that_is_not_finite_changes_no_weight() -> None:
    _, flat, optimizer = small_model()
    for poison in (math.nan, math.inf):
        for place in (0, -1):
            before = flat.data.clone()
            flat.grad.normal_()
            flat.grad[place] = poison
            optimizer.step()
            assert torch.equal(flat.data, before)
            assert torch.equal(optimizer.ema, before)
    flat.grad.normal_()
    optimizer.step()
    assert flat.data.isfinite().all() and not torch.equal(flat.data, before)


def test_a_dropped_step_after_others_only_coasts() -> None:
    """Momentum may carry on, but nothing of the bad gradient stays."""
    _, flat, optimizer = small_model()
    for bad in (False, False, True, False):
        flat.grad.normal_()
        if bad:
            flat.grad[5] = math.nan
        running = optimizer.running_norm.clone()
        optimizer.step()
        if bad:
            assert optimizer.running_norm == running
    for tensor in (flat.data, optimizer.ema, optimizer.momentum, *optimizer.state().values()):
        assert tensor.isfinite().all()


def test_a_spike_is_clipped() -> None:
    _, flat, optimizer = small_model()
    for _ in range(3):
        flat.grad.normal_()
        optimizer.step()
    usual = float(optimizer.running_norm)
    flat.grad.normal_().mul_(1000)
    optimizer.step()
    assert float(flat.grad.norm()) <= 2.01 * usual
    assert float(optimizer.running_norm) < 1.05 * usual


def test_optimizer_state_goes_on() -> None:
    (_, flat, optimizer), (_, other_flat, other) = small_model(), small_model()
    gradients = torch.randn(4, len(flat.grad))
    for g in gradients[:2]:
        flat.grad.copy_(g)
        optimizer.step()
    state = optimizer.state()
    other.load(state)
    other.running_norm.copy_(optimizer.running_norm)
    for g in gradients[2:]:
        for f, o in ((flat, optimizer), (other_flat, other)):
            f.grad.copy_(g)
            o.step()
    assert torch.equal(flat.data, other_flat.data)
    assert torch.equal(optimizer.ema, other.ema)
    assert not torch.equal(state["raw"], flat.data), "a copy, not a view"


@pytest.fixture(autouse=True)
def _quick(quick_export: None) -> None:
    """All runs here, unless a test says otherwise."""


def options(output: Path, **changes: object) -> TrainOptions:
    chosen = TrainOptions(TINY[0], (DATA,), output, steps=4, batch=2, crop=64, device="cpu", log_every=1)
    return replace(chosen, **changes)  # type: ignore[arg-type]


def events(output: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


def facts(path: Path) -> dict:
    return json.loads(zoo.read_weights(path)[1]["facts"])


def curves(output: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw: name, steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(output / "tensorboard"))
    board.Reload()
    return {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]}


def test_train_writes_weights_that_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "export", export)
    reports: list[Report] = []
    notes: list[str] = []
    weights = train(options(tmp_path, config=TINY[4], validation=DATA), reports.append, notes.append)
    assert weights == tmp_path / "weights.safetensors"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("checkpoint.safetensors", "log.jsonl", "tensorboard", "weights.safetensors")
    }
    assert [r.step for r in reports] == [1, 2, 3, 4]
    assert all(math.isfinite(v) for r in reports for v in (r.loss, r.bpp, r.mse, r.norm))
    assert reports[-1].share == 1
    assert [e["loss"] for e in events(tmp_path, "step")] == [r.loss for r in reports]
    (done,) = events(tmp_path, "done")
    assert len(done["bpp"]) == len(done["psnr"]) == len(LAMBDAS)
    assert notes[-1] == f"quality 8: {done['bpp'][-1]:.4f} bpp, {done['psnr'][-1]:.2f} dB"
    drawn = curves(tmp_path)
    for name, of in CURVES.items():
        assert [step for step, _ in drawn[name]] == [1, 2, 3, 4]
        assert [value for _, value in drawn[name]] == pytest.approx([getattr(r, of) for r in reports])
    for name in ("bpp", "psnr"):
        values = [drawn[f"validation/{name}_{q + 1}"] for q in range(len(LAMBDAS))]
        assert [point for ((point, _),) in values] == [4] * len(LAMBDAS)
        assert [value for ((_, value),) in values] == pytest.approx(done[name])
    rgb = kodak_crop()[:64, :100]
    data = codec.encode(rgb, preset="tiny", weights=weights, device="cpu")
    assert codec.decode(data, weights=weights, device="cpu").size == (100, 64)


def test_training_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def cut(report: Report) -> None:
        if report.step == 3:
            raise Cut

    plan = options(tmp_path, steps=6, save_every=0.0)
    with pytest.raises(Cut):
        train(plan, cut)
    assert not (tmp_path / "weights.safetensors").exists()
    (tmp_path / "checkpoint.part").write_bytes(b"half a checkpoint")
    reports: list[Report] = []
    weights = train(replace(plan, resume=True), reports.append)
    first = reports[0].step
    assert 2 <= first <= 4, "from the last checkpoint, not from the start"
    assert [r.step for r in reports] == list(range(first, 7))
    assert all(math.isfinite(r.loss) for r in reports)
    assert [e["step"] for e in events(tmp_path, "start")] == [0, first - 1]
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert weights is not None
    reports.clear()
    train(replace(plan, resume=True), reports.append)
    assert reports == [], "what is done is done"


LONG_RUN = """
import sys
from pathlib import Path
import torch
from hpcmcodec.config import model_config
from hpcmcodec.training.run import TrainOptions, train

torch.set_num_threads(1)
data, output = map(Path, sys.argv[1:])
train(TrainOptions(
    model_config(0, "tiny"), (data,), output, steps=10_000, batch=2, crop=64, device="cpu", log_every=10,
    save_every=0, warmup=0, decay=0,
))
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed without a warning, in the middle of whatever it does, while it saves at every step."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    process = subprocess.Popen([sys.executable, "-c", LONG_RUN, str(DATA), str(tmp_path)])
    try:
        while not checkpoint.exists() or facts(checkpoint)["step"] < 40:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    saved, state = facts(checkpoint)["step"], load_file(checkpoint)
    before = events(tmp_path, "step")
    # A step that changes nothing shows that all goes on from what was saved.
    train(options(tmp_path, steps=saved + 1, resume=True, matrix_rate=0.0, vector_rate=0.0))
    assert facts(checkpoint)["step"] == saved + 1
    assert torch.equal(load_file(checkpoint)["raw"], state["raw"])
    (tmp_path / "weights.safetensors").unlink()
    plan = options(tmp_path, steps=saved + 10, resume=True, log_every=10_000, warmup=0.0, decay=0.0)
    reports: list[Report] = []
    assert train(plan, reports.append) is not None
    (after,) = reports
    assert after.step == facts(checkpoint)["step"] == saved + 10
    assert after.seconds > before[-1]["seconds"]
    # Over ten steps of two crops a loss varies threefold; that of a run that begins anew is the first one.
    assert after.loss < 0.5 * before[0]["loss"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    def stop(report: Report) -> None:
        if report.step == 2:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=r"interrupted at 75%: .* --resume") as ended:
        train(options(tmp_path), stop)
    assert ended.value.exit_code == 128 + number
    assert signal.getsignal(number) == handler
    assert facts(tmp_path / "checkpoint.safetensors")["step"] == 3, "saved at the end of the step"
    assert not (tmp_path / "weights.safetensors").exists()


def test_ctrl_c_at_the_command_line(tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = [sys.executable, "-m", "hpcmcodec", "train", "--data", str(DATA), "-o", str(output)]
    command += ["--preset", "tiny", "--batch", "1", "--crop", "64", "--seconds", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (output / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1].startswith("hpcm: interrupted") and "--resume" in err
    assert facts(output / "checkpoint.safetensors")["step"] > 0


def test_ctrl_c_after_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "export", interrupt)
    with pytest.raises(InterruptedRunError, match="--resume"):
        train(options(tmp_path, steps=1))
    monkeypatch.undo()
    assert train(options(tmp_path, steps=1, resume=True)) is not None


def test_a_new_run_goes_on_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw weights, moments and totals go on, the schedule and the average begin anew."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    train(options(one, decay=0.0))
    left, _ = zoo.read_weights(one / "checkpoint.safetensors")
    assert not torch.equal(left["raw"], left["ema"])
    taken: list[dict[str, Tensor]] = []

    def record(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        taken.append(tensors)
        write_tensors(path, tensors, metadata)

    monkeypatch.setattr(run, "write_tensors", record)
    reports: list[Report] = []
    weights = train(options(two, steps=2, init=one), reports.append)
    assert weights is not None
    begun = taken[0]
    assert set(begun) == set(left) and {"momentum", "running_norm", "adam.exp_avg", "adam.step"} < set(left)
    for name, tensor in left.items():
        assert torch.equal(begun[name], tensor if name != "ema" else left["raw"]), name
    assert [r.step for r in reports] == [1, 2]
    (start,) = events(two, "start")
    assert [start[name] for name in COUNTS] == [0, 0, 0, 4, 8]
    assert facts(weights) == {"step": 2, "crops": 4, "total_steps": 6, "total_crops": 12}
    assert [step for step, _ in curves(two)["train/loss"]] == [5, 6]
    # Cut and gone on with, the third still knows of the first two.
    train(options(three, steps=1, init=two / "checkpoint.safetensors"))
    weights = train(options(three, steps=2, resume=True))
    assert weights is not None
    assert facts(weights) == {"step": 2, "crops": 4, "total_steps": 8, "total_crops": 16}


def test_the_rate_can_stay(tmp_path: Path) -> None:
    reports: list[Report] = []
    train(options(tmp_path / "stays", warmup=0.25, decay=0.0), reports.append)
    assert [r.rate for r in reports] == [0, 1, 1, 1]
    reports.clear()
    train(options(tmp_path / "falls", warmup=0.0, decay=0.5), reports.append)
    assert [r.rate for r in reports] == [1, 1, 1, 0.5]


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    plan = options(tmp_path, steps=1)
    train(plan)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("checkpoint", "weights")}
    for name, path in files.items():
        before = path.read_bytes()
        with pytest.raises(UsageError, match=r"holds a run.*--resume.*--force"):
            train(plan)
        assert path.read_bytes() == before
        if name == "checkpoint":
            path.unlink()
    with pytest.raises(UsageError, match="choose one"):
        train(replace(plan, resume=True, force=True))
    weights = train(replace(plan, steps=2, force=True))
    assert weights is not None
    assert facts(weights) == {"step": 2, "crops": 4, "total_steps": 2, "total_crops": 4}


def test_what_is_skipped_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for side in (70, 80, 40):
        Image.fromarray(numbered(side, side, 0)).save(folder / f"{side}.png")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(b"no picture")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    notes: list[str] = []
    train(options(tmp_path / "run", data=(folder,), steps=1), note=notes.append)
    assert notes[:2] == ["skipped 3 unreadable pictures", "skipped 1 picture smaller than 64 x 64"]
    assert "TensorBoard is not installed" in notes[2] and len(notes) == 3
    (data,) = events(tmp_path / "run", "data")
    assert data == {"event": "data", "pictures": 3, "unreadable": 3, "used": 2}


def test_drawn_pictures_are_trained_on(tmp_path: Path) -> None:
    train(options(tmp_path / "run", steps=1, drawn=3))
    photos = len(read_pictures([DATA]).pixels)
    (data,) = events(tmp_path / "run", "data")
    assert data["pictures"] == photos + 3


def test_train_refuses(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    with pytest.raises(UsageError, match="--steps"):
        train(options(tmp_path, steps=None))
    with pytest.raises(UsageError, match="64"):
        train(options(tmp_path, crop=100))
    with pytest.raises(UsageError, match="no checkpoint"):
        train(options(tmp_path, resume=True))
    with pytest.raises(UsageError, match="no checkpoint"):
        train(options(tmp_path, init=tmp_path))
    for where in ("data", "validation"):
        missing = tmp_path / "nothing"
        with pytest.raises(ImageError, match="nothing does not exist"):
            train(options(tmp_path, **{where: (missing,) if where == "data" else missing}))
    with pytest.raises(ImageError, match="no readable picture"):
        train(options(tmp_path, data=(tmp_path,)))
    with pytest.raises(ImageError, match="512 x 512"):
        train(options(tmp_path, crop=512))
    with pytest.raises(WeightsError, match="rwkv-3-tiny"):
        train(options(tmp_path, init=tiny_weights(3)))
    with pytest.raises(HpcmError, match=r"too little memory .*--batch 1000000000000"):
        train(options(tmp_path / "large", batch=10**12))


def test_train_refuses_what_does_not_fit(tmp_path: Path) -> None:
    plan = options(tmp_path, steps=1)
    train(plan)
    other = replace(plan, steps=2, resume=True)
    with pytest.raises(WeightsError, match="rwkv-0-tiny, not of rwkv-2-tiny"):
        train(replace(other, config=TINY[2]))
    checkpoint = tmp_path / "checkpoint.safetensors"
    state, metadata = zoo.read_weights(checkpoint)
    elsewhere = json.dumps(facts(checkpoint) | {"layout": "another"})
    save_file(state, checkpoint, {"facts": elsewhere})
    with pytest.raises(WeightsError, match="another version"):
        train(other)
    save_file({name: t for name, t in state.items() if name != "momentum"}, checkpoint, metadata)
    with pytest.raises(WeightsError, match="another version"):
        train(other)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot be read"):
        train(other)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_checkpoint_that_cannot_be_written(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, Tensor], part: Path, metadata: dict[str, str]) -> None:
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr("hpcmcodec.training.export.save_file", full)
    with pytest.raises(HpcmError, match=r"cannot write .*checkpoint\.safetensors: No space left"):
        train(options(tmp_path))
    assert not [entry.name for entry in tmp_path.iterdir() if "checkpoint" in entry.name]


def test_training_starts_from_weights(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    """From int8 or from float ones; their totals go on where they are known."""
    before = zoo.initial_weights(TINY[0], tiny_weights(0))
    halves = tmp_path / "halves.safetensors"
    known = {"model": TINY[0].name, "facts": json.dumps({"step": 5, "crops": 70})}
    save_file({name: value.half() for name, value in before.items()}, halves, known)
    for name, init, totals in (("int8", tiny_weights(0), (1, 2)), ("float", halves, (6, 72))):
        plan = options(tmp_path / name, steps=1, init=init, matrix_rate=0.0, vector_rate=0.0)
        weights = train(plan)
        assert weights is not None
        after = zoo.initial_weights(TINY[0], weights)
        for part, value in before.items():
            # Rounded anew, for other pictures.
            torch.testing.assert_close(after[part], value, rtol=1e-2, atol=2e-2)
        assert (facts(weights)["total_steps"], facts(weights)["total_crops"]) == totals
    save_file({"weight": torch.zeros(1)}, halves, known)
    with pytest.raises(WeightsError, match="does not fit"):
        train(options(tmp_path / "misfit", init=halves))


def test_the_command_has_the_same_defaults() -> None:
    here = {name: p.default for name, p in inspect.signature(train_command).parameters.items()}
    there = {name: p.default for name, p in inspect.signature(TrainOptions).parameters.items()}
    shared = (set(here) & set(there)) - {"data", "output", "device", "exclude", "drawn_data"}
    assert {"matrix_rate", "vector_rate", "warmup", "decay", "ema_decay", "save_every", "force"} < shared
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}


def test_training_learns() -> None:
    """A few steps on one batch bring the loss down: gradients have the right sign all the way through."""
    torch.manual_seed(0)
    model = build_tiny(TINY[4]).train()
    flat = FlatParameters(model.named_parameters())
    optimizer = Optimizer(flat, 2e-3, 1e-3)
    optimizer.schedule(1.0, 0.9)
    x = torch.from_numpy(kodak_crop()[:64, :64]).permute(2, 0, 1)[None].float().div(255).repeat(2, 1, 1, 1)
    quality = torch.tensor([2.0, 6.0])
    losses: list[float] = []
    for _ in range(12):
        flat.grad.zero_()
        out = model(x, quality)
        likelihoods = out["likelihoods"]
        loss = rate_distortion(x, quality, out["x_hat"], likelihoods["y"], likelihoods["z"])["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_validate() -> None:
    model = build_tiny(TINY[0])
    pictures = [kodak_crop()[:70, :64], kodak_crop("kodim04")[:64, :64]]
    sums = validate(model, pictures, (2.0, 6.0))
    assert sums.shape == (2, 3)
    assert sums[:, 2].tolist() == [2, 2]
    assert sums[0, 0] < sums[1, 0]
    assert sums.isfinite().all() and (sums[:, 1] > 0).all()


def test_validate_together_or_one_by_one() -> None:
    model = build_tiny(TINY[0])
    crops = [kodak_crop()[:70, :64], kodak_crop("kodim04")[:70, :64], kodak_crop()[:64, :64]]
    together, alone = validate(model, crops, (3.0,), batch=8), validate(model, crops, (3.0,), batch=1)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=0)
    one_by_one = sum(validate(model, [crop], (3.0,)) for crop in crops)
    torch.testing.assert_close(together, one_by_one, rtol=1e-3, atol=0)


def test_a_training_that_diverges_stops(tmp_path: Path) -> None:
    """With one line, JSON in its log, and a checkpoint from before that."""
    output = tmp_path / "run"
    rates = {"matrix_rate": 1e30, "vector_rate": 1e30, "warmup": 0.0, "decay": 0.0}
    with pytest.raises(HpcmError, match="diverged") as caught:
        train(options(output, steps=50, save_every=0.0, **rates))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    for line in (output / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    stored, _ = zoo.read_weights(output / CHECKPOINT)
    assert all(tensor.isfinite().all() for tensor in stored.values())
    assert not (output / WEIGHTS).exists()


def test_the_log_is_json_whatever_is_measured(tmp_path: Path) -> None:
    log = Log(tmp_path, True, None)
    log.write(event="step", loss=float("nan"), norm=float("inf"), bpp=[1.5, -float("inf")], step=3)
    assert json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail) == {
        "event": "step",
        "loss": None,
        "norm": None,
        "bpp": [1.5, None],
        "step": 3,
    }


def test_a_gpu_is_as_it_was_after_training() -> None:
    """TF32 and what goes with it are the process's, not ours to leave on."""

    def flags() -> list[bool]:
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        return [
            cuda.matmul.allow_tf32,
            cudnn.allow_tf32,
            cudnn.benchmark,
            cuda.cudnn_sdp_enabled(),
            cudnn.enabled,
        ]

    before = flags()
    with Process(0, 1, torch.device("cuda")).fast():
        assert flags() == [True, True, True, False, before[4]]
        with tf32(False):
            assert flags() == [False, False, False, False, before[4]]
        assert flags() == [True, True, True, False, before[4]]
    assert flags() == before
    Process.start("cpu")
    assert flags() == before
