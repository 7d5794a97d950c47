"""HPCM: forward, compress and decompress, each a few lines over the one traversal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ..ambient import reproducible
from ..config import LAMBDAS, ModelConfig
from ..entropy.coders import (
    CountCoder,
    DecodeCoder,
    EncodeCoder,
    RateCoder,
    SymbolReader,
    SymbolWriter,
    latent_checksum,
    round_ste,
    z_indexes,
)
from ..entropy.likelihood import likelihood
from ..entropy.tables import LEVELS, SCALE_MIN, CdfTables, generalized_gaussian_tables, scale_table
from ..errors import CorruptFileError, ModelMismatchError, WeightsError
from ..layers.exact import COARSEST, DECAY_SHAPE, GATE_SHAPE, Grid, Tables
from .context import Coder, ContextModel
from .exact import ExactHyperSynthesis, ExactQualityTable, replace_context
from .schedule import STEPS, pyramid
from .transforms import (
    Tune,
    analysis,
    hyper_analysis,
    hyper_synthesis,
    run_transform,
    synthesis,
)

__all__ = ["HPCM", "Compressed", "HyperParams"]

# What the decoder must reproduce bit for bit, and what only shapes the pixels; the rest is the encoder's.
ENTROPY_PARTS = ("h_s.", "context.", "inverse_gain_z.", "scale_z.", "quant_step.")
SYNTHESIS_PARTS = ("g_s.", "inverse_gain_y.", "tune_g_s.")

# What depends on the quality: vectors, one row per integer quality.
QUALITY_PARTS = ("gain_", "inverse_gain_", "scale_z", "quant_step")
# What depends on tune: vectors that are zero until they are trained.
TUNE_PARTS = ("tune_g_a.", "tune_g_s.", "tune_h_a.", "gain_y.tune", "inverse_gain_y.tune")

MISMATCH = (
    "the latent decoded here is not the one that was encoded: the file is damaged, or this machine computes "
    "something else (hpcm selftest tells)"
)


class QualityTable(nn.Module):
    """One learned row per integer quality, in the log domain, interpolated linearly between qualities.

    Called with `quality`, `B` values from 1 to 8, it gives exp(row), `B x *shape`.
    """

    def __init__(self, *shape: int, low: float = 0.0, high: float = 0.0) -> None:
        super().__init__()
        last = len(LAMBDAS) - 1
        self.log = nn.Parameter(torch.empty(last + 1, *shape, dtype=torch.float32))
        for row, values in enumerate(self.log.data):
            nn.init.constant_(values, low + (high - low) * row / last)

    def forward(self, quality: Tensor) -> Tensor:
        return self.interpolate(quality, self.log).exp()

    def interpolate(self, quality: Tensor, rows: Tensor) -> Tensor:
        """`B x *shape` of `qualities x *shape`."""
        level = torch.arange(1, len(LAMBDAS) + 1, device=quality.device, dtype=torch.float32)
        hat = (1 - (quality.float()[:, None] - level).abs()).clamp_min(0)
        return (hat @ rows.float().flatten(1)).unflatten(1, rows.shape[1:])


class TunedQualityTable(QualityTable):
    """A QualityTable with a second row for each quality, which counts in proportion to tune."""

    def __init__(self, *shape: int, low: float = 0.0, high: float = 0.0) -> None:
        super().__init__(*shape, low=low, high=high)
        self.tune = nn.Parameter(torch.zeros(self.log.shape, dtype=torch.float32))

    def forward(self, quality: Tensor, tune: Tensor | None = None) -> Tensor:
        plain = super().forward(quality)
        if tune is None:
            return plain
        rows = self.interpolate(quality, self.tune)
        return plain * (rows * tune.float().view(-1, *[1] * (rows.dim() - 1))).exp()


@dataclass(frozen=True)
class HyperParams:
    """What decoding y starts from: the common parameters, `B x H x W x 2M`, and quant_step, `B x 10 x C`."""

    common: Tensor
    quant_step: Tensor


@dataclass(frozen=True)
class Compressed:
    """One coded picture.

    z, y: the two rANS streams.
    checksum: 8 bytes over the symbols of z and y.
    y_hat: the latent that a decoder must arrive at, `1 x H/16 x W/16 x M`.
    streams: the symbols of z and y, with their tables.
    """

    z: bytes
    y: bytes
    checksum: bytes
    y_hat: Tensor
    streams: tuple[SymbolWriter, SymbolWriter]

    @property
    def bits(self) -> tuple[float, float]:
        """What the tables say the symbols of z and y cost."""
        z, y = self.streams
        return z.bits(), y.bits()


def _table(arrays: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    table = arrays.get(name)
    if table is None or table.shape != shape or not table.is_floating_point():
        raise WeightsError(f"damaged weights: exact.{name} is not a table of {shape} values")
    if not ((table >= 0) & (table <= 1)).all():
        raise WeightsError(f"damaged weights: exact.{name} holds what is not from 0 to 1")
    return table


def _as_tensor(quality: float, device: torch.device) -> Tensor:
    return torch.tensor([quality], dtype=torch.float32, device=device)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


class HPCM(nn.Module):
    """The codec's model for one configuration, all qualities in one set of weights.

    Pictures are RGB in [0, 1], `B x 3 x H x W`, H and W multiples of 64. `quality` is 1 to 8, fractions
    allowed (spec section 1; Cui et al., CVPR 2021, for gain vectors).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = config.sizes
        self.config = config
        self.g_a = analysis(sizes.widths, sizes.M)
        self.g_s = synthesis(sizes.widths, sizes.M)
        self.h_a = hyper_analysis(sizes.M, sizes.N)
        self.h_s = hyper_synthesis(sizes.M, sizes.N)
        self.context = ContextModel(config)
        self.tune_g_a, self.tune_g_s, self.tune_h_a = (Tune(t) for t in (self.g_a, self.g_s, self.h_a))
        self.gain_y = TunedQualityTable(sizes.M, low=-0.9, high=0.9)
        self.inverse_gain_y = TunedQualityTable(sizes.M, low=0.9, high=-0.9)
        self.gain_z = QualityTable(sizes.N)
        self.inverse_gain_z = QualityTable(sizes.N)
        self.scale_z = QualityTable(sizes.N, low=0.3, high=0.3)
        self.quant_step = QualityTable(len(STEPS) - 1, sizes.context_width)
        nn.init.constant_(self.g_s[-1].bias, 0.5)  # type: ignore[arg-type]
        self.entropy_id = self.synthesis_id = bytes(4)
        self.entropy_digest = ""

    def load_weights(self, weights: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> None:
        """Take over weights by name, as `load_state_dict`; those from before tune existed have none of it.

        Raises:
            RuntimeError: names or shapes are not this model's.
        """
        untuned = {
            name: torch.zeros(p.shape, dtype=torch.float32, device="cpu")
            for name, p in self.named_parameters()
            if strict and name.startswith(TUNE_PARTS)
        }
        self.load_state_dict(untuned | dict(weights), strict=strict, assign=assign)

    @cached_property
    def tables(self) -> CdfTables:
        """The integer CDF tables: those stored with the weights, or the parametric ones of a new model."""
        return generalized_gaussian_tables(self.config.sizes.shape, scale_table())

    def use_tables(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Code with stored tables; see `CdfTables.from_arrays`."""
        tables = CdfTables.from_arrays(arrays)
        if len(tables.size) != LEVELS:
            raise WeightsError(f"damaged coding tables: {len(tables.size)} rows, not {LEVELS}")
        self.tables = tables

    def use_exact(self, arrays: Mapping[str, Tensor]) -> None:
        """Go over to the exact entropy path (see `exact`), for coding only.

        Args:
            arrays: the tables `decay` and `gate`, and `bits`, int8, of every calibrated grid by
                order of name; without `bits` the grids note what they see, for calibration.
        """
        device = self.gain_y.log.device
        tables = Tables(_table(arrays, "decay", DECAY_SHAPE), _table(arrays, "gate", GATE_SHAPE))
        for name, module in self.named_modules():
            setattr(module, "place", name)  # noqa: B010
        self.h_s = ExactHyperSynthesis(self.h_s)  # type: ignore[assignment]
        replace_context(self.context, tables)
        for name in ("inverse_gain_z", "scale_z", "quant_step"):
            setattr(self, name, ExactQualityTable(getattr(self, name).log, tables))
        if "bits" in arrays:
            self._set_grids(arrays["bits"])
        self.to(device)

    def _set_grids(self, bits: Tensor) -> None:
        grids = self.grids()
        if bits.dtype != torch.int8 or bits.shape != (len(grids),):
            raise WeightsError(f"damaged weights: {len(grids)} grids, and exact.bits is {tuple(bits.shape)}")
        for grid, chosen in zip(grids.values(), bits.tolist(), strict=True):
            if not COARSEST <= chosen <= grid.most:
                raise WeightsError(f"damaged weights: exact.bits holds {chosen}")
            grid.bits = chosen

    def grids(self) -> dict[str, Grid]:
        """The grids of the exact entropy path that calibration chooses, by name."""
        named = sorted(self.named_modules(), key=lambda pair: pair[0])
        return {name: m for name, m in named if isinstance(m, Grid) and not m.fixed}

    def forward(
        self, x: Tensor, quality: Tensor, noise: bool | None = None, tune: Tensor | None = None
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        """Estimate rate and reconstruct, as CompressAI's models do.

        Args:
            x: `B x 3 x H x W`.
            quality: `B` values, 1 to 8.
            noise: measure likelihoods under additive uniform noise; default: when training.
            tune: `B` values from 0, for PSNR, to 1, for the eye; None: 0.

        Returns:
            `x_hat`, `B x 3 x H x W`, and `likelihoods`: `z`, `B x N x H/64 x W/64`, and `y`,
            `B x M*H*W/256`, flat in coding order.
        """
        y_hat, likelihoods = self.estimate(self.latent(x, tune), quality, noise, tune)
        return {"x_hat": self.synthesise(y_hat, quality, tune), "likelihoods": likelihoods}

    def estimate(
        self, latent: Tensor, quality: Tensor, noise: bool | None = None, tune: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """y_hat, `B x H/16 x W/16 x M`, and the likelihoods of `forward`, of what `latent` gave."""
        noise = self.training if noise is None else noise
        y = self.scaled(latent, quality, tune)
        z = self.hyper_analyse(y, quality, tune)
        z_hat = round_ste(z)
        measured = z + (torch.rand_like(z) - 0.5) if noise else z_hat
        scale = self.scale_z(quality).float()[:, :, None, None].clamp_min(SCALE_MIN)
        z_likelihood = likelihood(measured, scale.expand_as(z), self.config.sizes.shape)
        coder = RateCoder(pyramid(_nhwc(y)), self.config.sizes.shape, noise)
        y_hat = self.decompress_hpcm(self.hyper_synthesise(z_hat, quality), coder)
        return y_hat, {"y": torch.cat(coder.likelihoods, 1), "z": z_likelihood}

    def latent(self, x: Tensor, tune: Tensor | None = None) -> Tensor:
        """What g_a makes of x, the same for every quality: `B x M x H/16 x W/16`."""
        tuned = None if tune is None else self.tune_g_a(tune)
        return run_transform(self.g_a, (x - 0.5).contiguous(memory_format=torch.channels_last), tuned)

    def analyse(self, x: Tensor, quality: Tensor) -> Tensor:
        """y, scaled by the quality's gain: `B x M x H/16 x W/16`."""
        return self.scaled(self.latent(x), quality)

    def scaled(self, latent: Tensor, quality: Tensor, tune: Tensor | None = None) -> Tensor:
        """y of what `latent` gave."""
        return latent * self.gain_y(quality, tune)[:, :, None, None]

    def count_symbols(self, x: Tensor, quality: Tensor, reach: int) -> Tensor:
        """How often each symbol -reach..reach occurs at each level, `levels x 2 reach + 1`; see `forward`."""
        with torch.no_grad():
            y = self.analyse(x, quality)
            z_hat = self.hyper_analyse(y, quality).round()
            coder = CountCoder(pyramid(_nhwc(y)), reach)
            coder.count(_nhwc(z_hat), self.scale_z(quality)[:, None, None].expand(_nhwc(z_hat).shape))
            self.decompress_hpcm(self.hyper_synthesise(z_hat, quality), coder)
        return coder.counts

    def hyper_analyse(self, y: Tensor, quality: Tensor, tune: Tensor | None = None) -> Tensor:
        """z, scaled by the quality's gain: `B x N x H/64 x W/64`."""
        tuned = None if tune is None else self.tune_h_a(tune)
        return run_transform(self.h_a, y, tuned, wide=False).float() * self.gain_z(quality)[:, :, None, None]

    def hyper_synthesise(self, z_hat: Tensor, quality: Tensor) -> HyperParams:
        """What decoding y starts from, of z_hat, `B x N x H/64 x W/64`."""
        # A fresh copy: results depend on the strides of what goes in, and the decoder's are its own.
        z_hat = _nchw(_nhwc(z_hat).clone(memory_format=torch.contiguous_format))
        common = self.h_s(z_hat * self.inverse_gain_z(quality)[:, :, None, None])
        return HyperParams(_nhwc(common), self.quant_step(quality))

    def decompress_hpcm(self, params: HyperParams, decoder: Coder) -> Tensor:
        """y_hat, `B x H/16 x W/16 x M`, by the coding traversal through any coder."""
        return self.context.code(params.common, decoder, params.quant_step)

    def synthesise(self, y_hat: Tensor, quality: Tensor, tune: Tensor | None = None) -> Tensor:
        """The picture, `B x 3 x H x W`, of y_hat, `B x H/16 x W/16 x M`."""
        tuned = None if tune is None else self.tune_g_s(tune)
        gain = self.inverse_gain_y(quality, tune)[:, :, None, None]
        return run_transform(self.g_s, _nchw(y_hat.float()) * gain, tuned)

    def compress(self, x: Tensor, quality: float) -> Compressed:
        """Code one picture, `1 x 3 x H x W`."""
        with reproducible():
            latent = self.latent(x)
        return self.compress_latent(latent, quality)

    def compress_latent(self, latent: Tensor, quality: float) -> Compressed:
        """Code what `latent` gave, `1 x M x H/16 x W/16`, H and W multiples of 64."""
        with reproducible():
            q = _as_tensor(quality, latent.device)
            y = self.scaled(latent, q)
            z = self.hyper_analyse(y, q).round()
            streams = SymbolWriter(self.tables), SymbolWriter(self.tables)
            streams[0].write(_nhwc(z), z_indexes(self.scale_z(q)[0], *z.shape[2:]))
            coder = EncodeCoder(pyramid(_nhwc(y)), streams[1])
            y_hat = self.decompress_hpcm(self.hyper_synthesise(z, q), coder)
        checksum = latent_checksum(streams[0].symbols, streams[1].symbols)
        z_bytes, y_bytes = (s.finish() for s in streams)
        return Compressed(z_bytes, y_bytes, checksum, y_hat, streams)

    def decompress_latent(
        self, z: bytes, y: bytes, checksum: bytes, height: int, width: int, quality: float
    ) -> Tensor:
        """y_hat of one picture, `1 x H/16 x W/16 x M`, checked against the checksum.

        Raises:
            CorruptFileError: a stream cannot hold such a picture.
            ModelMismatchError: the symbols decoded are not those encoded.
        """
        sizes = self.config.sizes
        rows, columns = height // 64, width // 64
        z_reader = SymbolReader(z, sizes.N * rows * columns, self.tables)
        y_reader = SymbolReader(y, sizes.M * rows * columns * 16, self.tables)
        try:
            with reproducible():
                q = _as_tensor(quality, self.gain_y.log.device)
                scale = self.scale_z(q)[0]
                z_hat = z_reader.read(z_indexes(scale, rows, columns), (1, rows, columns, sizes.N), scale)
                y_hat = self.decompress_hpcm(self.hyper_synthesise(_nchw(z_hat), q), DecodeCoder(y_reader))
        except CorruptFileError as error:  # what a wrong scale leads to, before the checksum is reached
            raise ModelMismatchError(MISMATCH) from error
        if latent_checksum(z_reader.symbols, y_reader.symbols) != checksum:
            raise ModelMismatchError(MISMATCH)
        return y_hat

    def decompress(
        self, z: bytes, y: bytes, checksum: bytes, height: int, width: int, quality: float
    ) -> Tensor:
        """The picture, `1 x 3 x H x W`, of two streams; errors as `decompress_latent`."""
        y_hat = self.decompress_latent(z, y, checksum, height, width, quality)
        with reproducible():
            return self.synthesise(y_hat, _as_tensor(quality, y_hat.device))
