"""Mutated files for the decoder: `python -m tests.fuzz --count 10000 --weights tiny.safetensors`.

Every file must decode, or end in one of this package's errors, within seconds and a bounded memory; read both
as a whole and in part. Half of them have their CRCs set right again, so that they get past the container.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from hpcmcodec import HpcmError, pictures
from hpcmcodec.codec import decode_picture, encode_picture

__all__ = ["check", "mutated", "seeds"]

START = 6
PATIENCE = 20
DATA = Path(__file__).parent / "data"


def seeds(weights: Path) -> list[bytes]:
    """Small files of every kind."""
    with Image.open(DATA / "kodim23-crop.png") as image:
        rgb = image.convert("RGB")
    wide = Image.fromarray(np.concatenate([np.asarray(rgb)] * 3, 1)[:64])
    wide = wide.resize((600, 70))
    clear = rgb.resize((90, 60)).convert("RGBA")
    clear.putalpha(rgb.resize((90, 60)).convert("L"))
    clear.info |= {"icc_profile": bytes(range(256)) * 8, "xmp": b"<x:xmpmeta/>"}
    grey = rgb.resize((64, 100)).convert("L")
    settings = {"preset": "tiny", "weights": weights}
    return [
        encode_picture(rgb.resize((64, 64)), 3, **settings).data,  # type: ignore[arg-type]
        encode_picture(clear, 5, **settings).data,  # type: ignore[arg-type]
        encode_picture(grey, 8, **settings).data,  # type: ignore[arg-type]
        encode_picture(wide, 4, tile=256, **settings).data,  # type: ignore[arg-type]
    ]


def _chunks(data: bytes) -> list[bytearray]:
    """Type and data of each chunk."""
    found, position = [], START
    while position + 12 <= len(data):
        length = struct.unpack_from("<I", data, position + 4)[0]
        found.append(bytearray(data[position : position + 4] + data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def _file(start: bytes, chunks: list[bytearray]) -> bytes:
    whole = [
        bytes(c[:4]) + struct.pack("<I", len(c) - 4) + bytes(c[4:]) + struct.pack("<I", zlib.crc32(c))
        for c in chunks
    ]
    return start + b"".join(whole)


def _change(data: bytearray, dice: random.Random, first: int = 0) -> None:
    """One small change somewhere behind `first`."""
    where = dice.randrange(first, max(first + 1, len(data)))
    kind = dice.randrange(6)
    if kind == 0 and where < len(data):
        data[where] ^= 1 << dice.randrange(8)
    elif kind == 1 and where < len(data):
        data[where] = dice.choice((0, 1, 127, 128, 255))
    elif kind == 2:
        del data[where : where + dice.randrange(1, 9)]
    elif kind == 3:
        data[where:where] = dice.randbytes(dice.randrange(1, 9))
    elif kind == 4:
        data[where : where + 4] = struct.pack("<I", dice.choice((0, 1, 64, 2048, 65536, 2**31, 2**32 - 1)))
    else:
        data[where:] = dice.randbytes(dice.randrange(0, 60))


def mutated(whole: bytes, dice: random.Random, repaired: bool) -> bytes:
    """A damaged copy; `repaired`: its chunks are whole, and only what is in them is wrong."""
    if not repaired:
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            _change(data, dice)
        return bytes(data)
    chunks = _chunks(whole)
    for _ in range(dice.randrange(1, 4)):
        kind = dice.randrange(8)
        which = dice.randrange(len(chunks))
        if kind == 0:
            chunks.insert(dice.randrange(len(chunks) + 1), bytearray(chunks[which]))
        elif kind == 1 and len(chunks) > 1:
            del chunks[which]
        elif kind == 2:
            other = dice.randrange(len(chunks))
            chunks[which], chunks[other] = chunks[other], chunks[which]
        else:
            _change(chunks[which], dice, 4)
    return _file(whole[:START], chunks)


def check(data: bytes, weights: Path, partial: bool) -> str:
    """Decode; what came of it in a word. Anything but this package's errors is raised."""
    try:
        decoded = decode_picture(data, weights, partial=partial)
        pictures.save(decoded.image, "PNG")
    except HpcmError as error:
        return "several lines" if "\n" in str(error) else type(error).__name__
    return "broken tiles" if decoded.broken else "decoded"


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {PATIENCE} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="where to put files that fail")
    options = parser.parse_args()
    files = seeds(options.weights)
    for whole in files:
        assert check(whole, options.weights, False) == "decoded"
    results: Counter[tuple[bool, bool, str]] = Counter()
    slowest, failures = 0.0, 0
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(options.count):
        dice = random.Random(options.seed * 10**9 + number)
        repaired = number % 2 == 0
        data = mutated(dice.choice(files), dice, repaired)
        for partial in (False, True):
            start = time.monotonic()
            signal.alarm(PATIENCE)
            try:
                result = check(data, options.weights, partial)
            except Exception as error:
                result, failures = repr(error)[:80], failures + 1
                if options.keep:
                    (options.keep / f"{options.seed}-{number}.hpcm").write_bytes(data)
            signal.alarm(0)
            slowest = max(slowest, time.monotonic() - start)
            results[repaired, partial, result] += 1
    for (repaired, partial, result), count in sorted(results.items()):
        how = f"{'CRCs right' if repaired else 'any bytes':10} {'partial' if partial else 'whole':7}"
        print(f"{how} {count:6} {result}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.count} files, {failures} failures, slowest {slowest:.2f} s, peak memory {peak:.0f} MB")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
