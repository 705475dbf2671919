"""The rows of this family in the table of encoders."""

from __future__ import annotations

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

_PACKAGE = "vidembed.encode.clip4clip"
_RESIZE = Resize(short_side=224, crop=224)
_PAPER = ClipSpec(
    sampling=Sampling(kind="clip4clip", count=12, fps=1.0, pad="mask"), resize=_RESIZE
)
_UNIFORM = ClipSpec(sampling=Sampling(kind="uniform", count=12), resize=_RESIZE)
_TINY = ClipSpec(sampling=Sampling(kind="uniform", count=8), resize=Resize(short_side=64, crop=64))

ENTRIES = (
    Entry(
        name="clip4clip",
        package=_PACKAGE,
        modalities=("video", "text"),
        dim="512",
        metric="COSINE",
        presets={
            "paper": Preset("CLIP4Clip's: 1 fps, at most 12, masked", _PAPER),
            "towhee": Preset("Towhee's: 12 uniform; the default of a Hugging Face CLIP", _UNIFORM),
        },
        parameters="151 M (meanP) to 164 M (seqTransf)",
        gmacs="52.9 (B/32), 211 (B/16)",
        weights="Searchium-ai/clip4clip-webvid150k",
        licence="the weights' own (CLIP and CLIP4Clip code: MIT)",
        source="arXiv 2104.08860, github.com/ArrowLuo/CLIP4Clip",
        obtain=(
            "A pytorch_model.bin.N that CLIP4Clip's training wrote (meanP, seqLSTM, seqTransf; "
            "ViT-B/32 or B/16), or the folder or hub id of any Hugging Face CLIP. Without "
            "--weights: `hf download Searchium-ai/clip4clip-webvid150k --local-dir "
            "clip4clip-webvid150k`, then --weights clip4clip-webvid150k."
        ),
    ),
    Entry(
        name="clip4clip-tiny",
        package=_PACKAGE,
        modalities=("video", "text"),
        dim="128",
        metric="COSINE",
        presets={"uniform": Preset("as it was trained", _TINY)},
        parameters="3.1 M",
        gmacs="0.2",
        shipped=True,
        licence="Apache-2.0",
        source="trained by this project on drawn clips; for trying and testing only",
        obtain="Shipped. It knows drawn shapes, not real footage.",
    ),
)
