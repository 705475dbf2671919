"""A Hugging Face folder: its configuration, the names in it, and how it wants pixels prepared.

Needs no torch where the weights are safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from vidembed.clips import Resize
from vidembed.encode import weights as files
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vidembed.clips import Scaler

    Config = dict[str, Any]
    Shape = tuple[int, ...]
    Triple = tuple[float, float, float]

T = TypeVar("T")

# What these encoders read from beside the weights; all of it is in the digest.
SIDES = (
    "config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
# Pillow's numbers for its filters, which the preprocessors' files hold.
_SCALERS: dict[int, Scaler] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Processors of videos have torchvision's arithmetic only; its Lanczos is not known here.
_VIDEO_SCALERS: dict[int, Scaler] = {
    2: "torch_antialias_bilinear",
    3: "torch_antialias_bicubic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """How decoded frames become input: scaled, then minus mean over deviation, in [0, 1]."""

    resize: Resize
    mean: Triple
    std: Triple


def opened(name: str, model_type: str, wanted: str) -> tuple[files.Weights, Config]:
    """The weights of a folder, a file in it or a hub id, and the folder's configuration.

    wanted: what the encoder is for, for people to read. Raises WeightsError for a folder of another
    model_type, with the encoder that takes it.
    """
    found = files.find(name, SIDES)
    config = found.config()
    if config is None:
        raise WeightsError(
            f"{found.file} has no config.json beside it: name the folder of a Hugging Face model "
            f"(model_type {model_type}), or its hub id"
        )
    if config.get("model_type") != model_type:
        raise files.other_type(found, str(config.get("model_type")), wanted)
    return found, config


def renamed(names: Mapping[str, T], rename: Callable[[str], str | None]) -> dict[str, T]:
    """Under the names of today's network; None leaves a name out."""
    return {ours: v for name, v in names.items() if (ours := rename(name)) is not None}


def linear(name: str, out: int, into: int, *, bias: bool = True) -> dict[str, Shape]:
    """The parameters of a linear layer."""
    found: dict[str, Shape] = {f"{name}.weight": (out, into)}
    return found | {f"{name}.bias": (out,)} if bias else found


def norm(name: str, width: int) -> dict[str, Shape]:
    """The parameters of a layer normalisation."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def square(value: Any, what: str) -> int:
    """A size of one number, or of two that are equal. Raises WeightsError for another."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("height") if value.get("height") == value.get("width") else None
    if not isinstance(value, int) or value < 1:
        raise WeightsError(f"{what} is {value!r}: only squares of whole pixels are read")
    return value


def plain(config: Config) -> Config:
    """A configuration for building the network, without what must not shape it: the numbers are
    float32 until the encoder says otherwise, and attention is chosen by the encoder.
    """
    unwanted = {"dtype", "torch_dtype", "_attn_implementation", "attn_implementation"}
    return {
        name: plain(value) if name.endswith("_config") and isinstance(value, dict) else value
        for name, value in config.items()
        if name not in unwanted
    }


def processing(
    found: files.Weights, usual: Processing, *, video: bool = False, torchvision: bool = False
) -> Processing:
    """What the folder's preprocessor does; `usual` where its file, or a word in it, is absent.

    video: whether the folder's preprocessor may be one of videos. torchvision: whether it has
    torchvision's arithmetic only, and not Pillow's. Raises WeightsError for steps that make no
    frames of one square size.
    """
    said = _preprocessor(found, video=video)
    if not said:
        return usual
    where = f"the preprocessor of {found.folder}"
    mean, std = usual.mean, usual.std
    if not said.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        mean = _triple(said.get("image_mean") or mean, where)
        std = _triple(said.get("image_std") or std, where)
    scalers = _VIDEO_SCALERS if torchvision else _SCALERS
    return Processing(resize=resize(said, usual.resize, scalers, where), mean=mean, std=std)


def _preprocessor(found: files.Weights, *, video: bool) -> Config:
    """The preprocessor's file, in the order in which transformers looks for it."""
    kinds = ("video_processor", "image_processor") if video else ("image_processor",)
    whole = found.config("processor_config.json") or {}
    for kind in kinds:
        if isinstance(whole.get(kind), dict):
            nested: Config = whole[kind]
            return nested
    named = ["video_preprocessor_config.json"] if video else []
    for name in [*named, "preprocessor_config.json"]:
        said = found.config(name)
        if said:
            return said
    return {}


def resize(said: Config, usual: Resize, scalers: Mapping[int, Scaler], where: str) -> Resize:
    """The resize that a preprocessor's file describes."""
    number = said.get("resample")
    scaler = usual.interpolation if number is None else scalers.get(number)
    if scaler is None:
        raise WeightsError(f"{where} has resample {number!r}; known: {dict(scalers)}")
    if not said.get("do_resize", True):
        raise WeightsError(f"{where} does not resize (do_resize is false)")
    size = said.get("size")
    if size is None:
        return replace(usual, interpolation=scaler)
    if isinstance(size, dict) and "shortest_edge" in size:
        if not said.get("do_center_crop", usual.fit == "crop"):
            raise WeightsError(f"{where} scales the short side and does not crop")
        crop = square(said.get("crop_size", usual.crop), f"crop_size of {where}")
        return Resize(
            short_side=int(size["shortest_edge"]),
            crop=crop,
            interpolation=scaler,
            offset="floor",
        )
    side = square(size, f"size of {where}")
    if said.get("do_center_crop") and square(said.get("crop_size", side), where) != side:
        raise WeightsError(f"{where} squashes to {side} and then crops")
    return Resize(short_side=side, crop=side, interpolation=scaler, fit="squash")


def _triple(values: Any, where: str) -> Triple:
    if isinstance(values, (int, float)):
        values = [values] * 3
    if len(values) != 3:
        raise WeightsError(f"{where} has a mean or deviation of {len(values)} channels, not 3")
    return (float(values[0]), float(values[1]), float(values[2]))
