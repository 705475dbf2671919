"""The row of this family in the table of encoders."""

from __future__ import annotations

from dataclasses import replace

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

# 32 frames at 10 a second, as in training.
_SECONDS = 3.2
_PAPER = ClipSpec(
    sampling=Sampling(
        kind="ffmpeg_fps",
        count=32,
        fps=10.0,
        windows=10,
        seconds=_SECONDS,
        tail=0.4,
        pad="black",
    ),
    resize=Resize(short_side=224, crop=224, interpolation="bicubic", fit="square", offset="even"),
)
_WINDOW = replace(_PAPER, sampling=replace(_PAPER.sampling, windows=1, tail=0.0))
_TFHUB = ClipSpec(
    sampling=Sampling(kind="first", count=32),
    resize=Resize(
        short_side=224, crop=224, interpolation="cv2_bilinear", fit="square", offset="halves"
    ),
)
_UNIFORM = ClipSpec(sampling=Sampling(kind="uniform", count=32), resize=_PAPER.resize)
_ADDRESS = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m"

ENTRIES = (
    Entry(
        name="s3d_milnce",
        package="vidembed.encode.s3d_milnce",
        modalities=("video", "text"),
        dim="512",
        metric="IP",
        presets={
            "paper": Preset("its evaluation: 10 windows of 32 frames at 10 fps, averaged", _PAPER),
            "window": Preset("one such window, in the middle", _WINDOW),
            "uniform": Preset("32 over the whole video", _UNIFORM),
            "tfhub": Preset("TensorFlow Hub's example: the first 32 frames", _TFHUB),
        },
        parameters="31.2 M (video 9.7 M, text 21.5 M)",
        gmacs="372 (10 windows of 37.2)",
        licence="none stated by the authors, for code or weights",
        source="arXiv 1912.06430, github.com/antoine77340/S3D_HowTo100M",
        obtain=(
            f"`wget {_ADDRESS}/s3d_howto100m.pth` and, for texts, `wget {_ADDRESS}/s3d_dict.npy` "
            f"into the same folder; then --weights s3d_howto100m.pth. Checkpoints of "
            f"MIL-NCE_HowTo100M's training are read too."
        ),
        published=(
            "Zero-shot text to video: MSR-VTT 1k R@1/5/10 9.9/24.0/32.4, median rank 29.5; "
            "YouCook2 15.1/38.0/51.2, median rank 10 "
            "(github.com/antoine77340/MIL-NCE_HowTo100M, the row of the original weights)."
        ),
        notes=(
            "Vectors are compared by their product and keep their length, which counts.",
            "The dictionary is needed for texts only, and is not part of the fingerprint.",
        ),
    ),
)
