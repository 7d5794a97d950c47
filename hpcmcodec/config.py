"""What there is to build: presets, phases and qualities as rows of tables. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError

__all__ = [
    "FAMILIES",
    "LAMBDAS",
    "PHASES",
    "PRESETS",
    "QUALITIES",
    "ModelConfig",
    "Part",
    "Phase",
    "Preset",
    "model_config",
    "model_configs",
]

FAMILIES = ("rwkv",)

# Integer quality q stands for LAMBDAS[q - 1] in lambda * 255^2 * MSE + bpp: CompressAI's rate points, but for
# the last (0.18 there), which is what takes quality 8 above 40 dB on photographs.
LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.23)
QUALITIES = (1.0, float(len(LAMBDAS)))


@dataclass(frozen=True)
class Part:
    """One exchangeable part of the context model: what it is, and its window or its hidden rate."""

    kind: str  # "attention" | "conv" | "rwkv"
    window: int = 0
    hidden_rate: int = 0


@dataclass(frozen=True)
class Phase:
    """The parts of the context model in one phase (spec section 3), coarse scale first."""

    attn: tuple[Part, Part, Part]
    fuse: Part
    prior: Part


@dataclass(frozen=True)
class Preset:
    """Widths of a model. `cell_width` is that of the RWKV blocks inside context cells and fusions, by
    default the state's 2M; `hidden_rate` replaces that of every RWKV part; `shape` is the coded
    distribution's: 2 is the Gaussian, 1.5 the published generalised Gaussian."""

    widths: tuple[int, int, int]
    M: int
    N: int
    context_width: int
    cell_width: int | None
    hidden_rate: int | None
    shape: float


def _window(size: int) -> Part:
    return Part("attention", window=size)


def _rwkv(hidden_rate: int) -> Part:
    return Part("rwkv", hidden_rate=hidden_rate)


_CONV = Part("conv")
_RWKV_CELLS = (_rwkv(2), _rwkv(3), _rwkv(4))

PHASES: dict[str, tuple[Phase, ...]] = {
    "rwkv": (
        Phase(attn=(_window(4), _window(8), _window(8)), fuse=_CONV, prior=_CONV),
        Phase(attn=(_window(4), _window(8), _rwkv(4)), fuse=_CONV, prior=_CONV),
        Phase(attn=_RWKV_CELLS, fuse=_CONV, prior=_CONV),
        Phase(attn=_RWKV_CELLS, fuse=_rwkv(4), prior=_CONV),
        Phase(attn=_RWKV_CELLS, fuse=_rwkv(4), prior=_rwkv(4)),
    )
}

PRESETS: dict[str, Preset] = {
    "base": Preset(
        (96, 192, 384), M=320, N=256, context_width=960, cell_width=None, hidden_rate=None, shape=1.5
    ),
    "lite": Preset((96, 192, 384), M=256, N=128, context_width=256, cell_width=256, hidden_rate=2, shape=2.0),
    "tiny": Preset((16, 24, 32), M=32, N=16, context_width=96, cell_width=None, hidden_rate=2, shape=2.0),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to build one model."""

    family: str
    phase: int
    preset: str

    @property
    def parts(self) -> Phase:
        return PHASES[self.family][self.phase]

    @property
    def sizes(self) -> Preset:
        return PRESETS[self.preset]

    def hidden_rate(self, part: Part) -> int:
        return self.sizes.hidden_rate or part.hidden_rate

    @property
    def name(self) -> str:
        return f"{self.family}-{self.phase}-{self.preset}"


def model_config(phase: int = 4, preset: str = "lite", family: str = "rwkv") -> ModelConfig:
    """Check the three names and return the configuration.

    Raises:
        UsageError: a name is unknown; the message lists those there are.
    """
    if family not in FAMILIES:
        raise UsageError(f"unknown family {family!r}: choose from {', '.join(FAMILIES)}")
    if not 0 <= phase < len(PHASES[family]):
        raise UsageError(f"family {family} has phases 0 to {len(PHASES[family]) - 1}, not {phase}")
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    return ModelConfig(family, phase, preset)


def model_configs(preset: str | None = None) -> list[ModelConfig]:
    """All models that can be built, or those of one preset.

    Raises:
        UsageError: there is no such preset.
    """
    return [
        model_config(phase, size, family)
        for size in ((preset,) if preset else PRESETS)
        for family in FAMILIES
        for phase in range(len(PHASES[family]))
    ]
