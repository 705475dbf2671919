"""The rows of this family in the table of encoders."""

from __future__ import annotations

from dataclasses import dataclass

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset


def _presets(size: int) -> dict[str, Preset]:
    clip = ClipSpec(
        sampling=Sampling(kind="nearest", count=8),
        resize=Resize(short_side=size, crop=size, interpolation="bilinear", fit="squash"),
    )
    return {"official": Preset("the authors': 8 frames, int(k * n / 8), squashed", clip)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    size: int
    dim: int
    parameters: str
    gmacs: str
    recall: str


def _entry(name: str, hub: str, numbers: _Numbers) -> Entry:
    folder = hub.rpartition("/")[2]
    return Entry(
        name=name,
        package="vidembed.encode.pe_core",
        modalities=("video", "text"),
        dim=str(numbers.dim),
        metric="COSINE",
        presets=_presets(numbers.size),
        weights=hub,
        licence="Apache-2.0",
        source="arXiv 2504.13181, github.com/facebookresearch/perception_models",
        obtain=(
            f"open_clip's layout (open_clip_model.safetensors). Without --weights: `hf download "
            f"{hub} --local-dir {folder}`, then --weights {folder}."
        ),
        parameters=numbers.parameters,
        gmacs=numbers.gmacs,
        published=f"Zero-shot text to video, MSR-VTT 1k: R@1 {numbers.recall} (its README)",
    )


ENTRIES = (
    _entry(
        "pe_core_b",
        "timm/PE-Core-B-16",
        _Numbers(
            size=224,
            dim=1024,
            parameters="447.7 M (image 93.7 M, text 354.0 M)",
            gmacs="142",
            recall="47.6",
        ),
    ),
    _entry(
        "pe_core_l",
        "timm/PE-Core-L-14-336",
        _Numbers(
            size=336,
            dim=1024,
            parameters="671.1 M (image 317.2 M, text 354.0 M)",
            gmacs="1537",
            recall="50.3",
        ),
    ),
    _entry(
        "pe_core_t",
        "timm/PE-Core-T-16-384",
        _Numbers(
            size=384,
            dim=512,
            parameters="69.5 M (image 6.1 M, text 63.4 M)",
            gmacs="37.8",
            recall="28.8",
        ),
    ),
)
