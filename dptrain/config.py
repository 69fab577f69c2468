"""How a network is built and trained: one frozen record that refuses unknown keys, saved whole in every run."""

import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from dpcurate.errors import InputError
from dpcurate.schema import Record

CONFIG_FILE = "config.toml"


class NetworkConfig(Record):
    """Which network, and what it starts from."""

    architecture: Literal["cnn", "densenet121", "swin"]
    pretrained: bool = False
    kernel: Literal[3, 5, 7] = Field(3, description="cnn: side of the convolutions after the first")
    window: Literal["standard", "fitted"] = Field(
        "standard", description="Swin's attention window: 7 tokens, or the largest up to 8 that needs no padding"
    )


class InputConfig(Record):
    """The canonical frame in which every network sees a pattern; see ``augment``."""

    frame: Literal["polar", "cartesian"] = Field(
        "polar", description="size / 2 radii x 2 size azimuths, or size x size pixels"
    )
    size: int = Field(128, ge=32, le=1024, multiple_of=32, description="pixels along each side")
    k_max: float | None = Field(
        None, gt=0, description="half width of the frame in 1/Angstrom; none: what the training patterns reach"
    )
    k_min: float = Field(0.1, ge=0, description="in 1/Angstrom; the direct beam inside it is masked")
    power: float = Field(0.25, gt=0, le=1, description="intensities are raised to it before they are standardised")


class AugmentConfig(Record):
    """Random changes of training patterns, each one exact in its effect on the label."""

    turn: bool = Field(True, description="in-plane turns by any angle")
    mirror: bool = Field(True, description="mirrors y -> -y, every second pattern")
    scale_sd: float = Field(0.01, ge=0, lt=0.2, description="standard deviation of the relative scale error")
    shift_sd_pixels: float = Field(0.5, ge=0, description="standard deviation of the centre's error, input pixels")


class HeadConfig(Record):
    """What the network's outputs mean, and the loss on them; see ``heads``."""

    name: Literal["density", "grid", "harmonics", "rotation", "euler"] = "density"
    loss: Literal["plain", "truncated", "laplace"] = Field("plain", description="see ``head.robust``")
    clamp: bool = Field(True, description="Euler head: angles are kept within their ranges at prediction")
    max_degree: int | None = Field(
        None, ge=0, le=16, description="density, harmonics: all degrees up to it; 0: fewest that do; none: by symmetry"
    )
    spacing_deg: float = Field(5.0, gt=0, le=30, description="density, grid: wanted between neighbouring cells")
    max_cells: int = Field(4000, ge=16, description="over all phases; the spacing is widened to keep to it")
    sigma_spacings: float = Field(0.6, gt=0.2, le=3, description="width of the soft target, in cell spacings")

    @model_validator(mode="after")
    def _choices_belong_to_the_head(self) -> "HeadConfig":
        if self.name in ("grid", "density") and self.loss == "laplace":
            raise ValueError(
                f"loss laplace is a root of distances, and head {self.name} has none; choose plain or truncated"
            )
        if self.name != "euler" and not self.clamp:
            raise ValueError(f"clamp belongs to head euler, not to {self.name}; leave --no-clamp out")
        if self.name not in ("density", "harmonics") and self.max_degree is not None:
            raise ValueError(
                f"max_degree is of heads density and harmonics, not of {self.name}; leave --max-degree out"
            )
        return self


class DatasetReference(Record):
    """The dataset that a run reads."""

    name: str
    version: str
    path: str


class TrainConfig(Record):
    """Everything that decides a run's result, besides code and data."""

    model: str
    network: NetworkConfig
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    head: HeadConfig = HeadConfig()
    dataset: DatasetReference | None = None
    weights: str | None = Field(None, description="file of pretrained weights; none: timm's hub")
    label_source: Literal["label", "truth"] = "label"
    label_weights: Literal["none", "confidence"] = Field("none", description="how much each label counts in the loss")
    fresh: bool = Field(False, description="simulated training patterns are drawn anew for every epoch")
    seed: int = Field(0, ge=0, lt=2**31)
    epochs: int | None = Field(None, ge=1, description="none: as many as show patterns_seen patterns")
    patterns_seen: int = Field(600_000, ge=1, description="training patterns shown when epochs is not given")
    max_epochs: int = Field(300, ge=1, description="limit of the epochs that patterns_seen asks for")
    batch_size: int = Field(64, ge=1, description="patterns per step, over all processes")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["cosine", "exponential", "constant"] = Field("cosine", description="of the rate; see `schedule`")
    final_share: float = Field(0.01, gt=0, le=1, description="of the rate at the end of an exponential decay")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of all steps in which the rate rises")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    accumulate: int = Field(1, ge=1, description="parts in which a step shows its batch, one after the other")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="of the moving average of the weights; 0: none")
    patience: int | None = Field(None, ge=1, description="epochs without a lower validation loss that end the run")
    confidence_order: Literal["none", "confident-first", "random"] = Field("none", description="see `pacing`")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where a GPU has it")
    compile: bool = Field(False, description="by torch.compile")

    @model_validator(mode="after")
    def _kernel_belongs_to_the_cnn(self) -> "TrainConfig":
        if self.network.kernel != 3 and self.network.architecture != "cnn":
            raise ValueError(f"kernel belongs to the cnn, not to {self.model}; leave --kernel out")
        return self

    @model_validator(mode="after")
    def _frame_is_wider_than_mask(self) -> "TrainConfig":
        if self.input.k_max is not None and self.input.k_min >= self.input.k_max:
            raise ValueError(f"input.k_min ({self.input.k_min}) must be below input.k_max ({self.input.k_max})")
        return self


def to_toml(config: TrainConfig) -> str:
    """The config as TOML text; keys without a value are left out."""
    plain = config.model_dump(exclude_none=True)
    tables = {key: value for key, value in plain.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def read_config(path: Path) -> TrainConfig:
    """The config saved at ``path``.

    Raises
    ------
    InputError
        The file is missing, is not TOML, or holds a key or value that a config does not have.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name a folder that `dptrain run` wrote.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable TOML ({error}): restore the file that the run wrote.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{path}: {where}: {first['msg']}. Restore the file that the run wrote.") from None
