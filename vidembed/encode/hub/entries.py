"""The rows of transformers' networks in the table of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

if TYPE_CHECKING:
    from vidembed.clips import Scaler

_HUB = "vidembed.encode.hub"
_FOLDER = (
    "A Hugging Face folder or hub id with config.json and model.safetensors (or its shards): "
    "`hf download {name} --local-dir {short}`, then --weights {short}."
)


def _obtain(name: str) -> str:
    return _FOLDER.format(name=name, short=name.rpartition("/")[2])


def _prism(count: int) -> dict[str, Preset]:
    sampling = Sampling(kind="nearest", count=count)

    def resize(scaler: Scaler) -> Resize:
        return Resize(short_side=288, crop=288, interpolation=scaler, fit="squash")

    return {
        "official": Preset(
            "the authors' demo: int(k * n / count), squashed with Lanczos",
            ClipSpec(sampling=sampling, resize=resize("lanczos")),
        ),
        "transformers": Preset(
            "transformers' processor: the same frames, squashed bicubic",
            ClipSpec(sampling=sampling, resize=resize("torch_antialias_bicubic")),
        ),
    }


_616ASE, _835ARGE = _prism(16), _prism(8)
_SIGLIP = ClipSpec(
    sampling=Sampling(kind="uniform", count=12),
    resize=Resize(short_side=224, crop=224, interpolation="bicubic", fit="squash"),
)
_VJEPA2 = ClipSpec(
    sampling=Sampling(kind="uniform", count=64),
    resize=Resize(
        short_side=292, crop=256, interpolation="torch_antialias_bilinear", offset="floor"
    ),
)
_VIDEOMAE = ClipSpec(
    sampling=Sampling(kind="uniform", count=16),
    resize=Resize(short_side=224, crop=224, interpolation="bilinear", offset="floor"),
)
_PRISM_SOURCE = "arXiv 2402.13217, github.com/google-deepmind/videoprism"

ENTRIES = (
    Entry(
        name="videoprism_lvt_b",
        package=f"{_HUB}.videoprism",
        modalities=("video", "text"),
        dim="768",
        metric="COSINE",
        presets=_616ASE,
        parameters="248 M",
        gmacs="616",
        weights="google/videoprism-lvt-base-f16r288",
        licence="Apache-2.0 (code); the weights' own",
        source=_PRISM_SOURCE,
        obtain=_obtain("google/videoprism-lvt-base-f16r288"),
        published="zero-shot R@1, text to video: MSR-VTT 50.1, VATEX 56.2, ActivityNet 48.8",
    ),
    Entry(
        name="videoprism_lvt_l",
        package=f"{_HUB}.videoprism",
        modalities=("video", "text"),
        dim="1024",
        metric="COSINE",
        presets=_835ARGE,
        parameters="580 M",
        gmacs="835",
        weights="google/videoprism-lvt-large-f8r288",
        licence="Apache-2.0 (code); the weights' own",
        source=_PRISM_SOURCE,
        obtain=_obtain("google/videoprism-lvt-large-f8r288"),
        published="zero-shot R@1, text to video: MSR-VTT 50.1, VATEX 57.2, ActivityNet 51.3",
    ),
    Entry(
        name="siglip2",
        package=f"{_HUB}.siglip",
        modalities=("video", "text"),
        dim="768 (base)",
        metric="COSINE",
        presets={"uniform": Preset("12 uniform, frames averaged; pixels as the folder", _SIGLIP)},
        parameters="375 M (base, SigLIP 2)",
        gmacs="212",
        weights="google/siglip2-base-patch16-224",
        licence="Apache-2.0",
        source="arXiv 2502.14786, github.com/google-research/big_vision",
        obtain=_obtain("google/siglip2-base-patch16-224"),
        notes=(
            "Any SigLIP or SigLIP 2 of one image size (FixRes); not NaFlex.",
            "An image model: what moves is not seen, only averaged.",
        ),
    ),
    Entry(
        name="vjepa2",
        package=f"{_HUB}.vjepa2",
        modalities=("video",),
        dim="1024 (ViT-L)",
        metric="COSINE",
        presets={"uniform": Preset("64 uniform; pixels as transformers' processor", _VJEPA2)},
        parameters="304 M (ViT-L, encoder)",
        gmacs="5785",
        weights="facebook/vjepa2-vitl-fpc64-256",
        licence="MIT or Apache-2.0, by checkpoint",
        source="arXiv 2506.09985, github.com/facebookresearch/vjepa2",
        obtain=_obtain("facebook/vjepa2-vitl-fpc64-256"),
        notes=("The authors name no vector of a clip: it is the mean of the encoder's tokens.",),
    ),
    Entry(
        name="videomae",
        package=f"{_HUB}.videomae",
        modalities=("video",),
        dim="768 (base)",
        metric="COSINE",
        presets={"uniform": Preset("16 uniform; pixels as the folder's processor", _VIDEOMAE)},
        parameters="86 M (base, encoder)",
        gmacs="180",
        weights="MCG-NJU/videomae-base",
        licence="CC BY-NC 4.0",
        source="arXiv 2203.12602, github.com/MCG-NJU/VideoMAE",
        obtain=_obtain("MCG-NJU/videomae-base"),
        notes=("Pretrained on pixels only: finetuned checkpoints separate actions better.",),
    ),
)
