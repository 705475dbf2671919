"""The rows of this family in the table of encoders."""

from __future__ import annotations

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

_PACKAGE = "vidembed.encode.mvit"
_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_SAFETY = (
    "Its tensors lie under model_state. Where the file is refused because it holds more than "
    "tensors, convert it once as the message says."
)
_GRID_FPS = 7.5


def _towhee(frames: int) -> Preset:
    """Of Towhee's reverse video search."""
    return Preset(
        f"Towhee's: {frames} uniform over the whole video",
        ClipSpec(
            sampling=Sampling(kind="uniform", count=frames),
            resize=Resize(short_side=224, crop=224, interpolation="torch_bilinear"),
        ),
    )


def _zoo(frames: int, stride: int) -> Preset:
    """Of the model zoo's test: every `stride`-th frame at 30 frames per second."""
    sampling = Sampling(
        kind="uniform", count=frames, windows=5, seconds=frames * stride / 30, placement="parts"
    )
    return Preset(
        f"the zoo's test: 5 windows of {frames * stride / 30:.3g} s",
        ClipSpec(
            sampling=sampling,
            resize=Resize(short_side=256, crop=224, interpolation="torch_bilinear"),
        ),
    )


_TORCHVISION = Preset(
    "torchvision's test: 5 windows of 16 frames at 7.5 a second",
    ClipSpec(
        sampling=Sampling(
            kind="fps",
            count=16,
            fps=_GRID_FPS,
            windows=5,
            seconds=16 / _GRID_FPS,
            placement="grid",
        ),
        resize=Resize(short_side=256, crop=224, interpolation="torch_bilinear_uint8"),
    ),
)

ENTRIES = (
    Entry(
        name="mvit_base_16x4",
        package=_PACKAGE,
        modalities=("video",),
        dim="768",
        metric="COSINE",
        presets={"towhee": _towhee(16), "zoo": _zoo(16, 4)},
        parameters="36.6 M",
        gmacs="70.8",
        licence="Apache-2.0 (pytorchvideo), weights trained on Kinetics-400",
        source="arXiv 2104.11227, github.com/facebookresearch/pytorchvideo",
        obtain=f"`curl -LO {_ZOO}/MVIT_B_16x4.pyth`, then --weights MVIT_B_16x4.pyth. {_SAFETY}",
        published="Kinetics-400 top-1 78.85, top-5 93.85 (5 windows, zoo)",
        notes=("torchvision's mvit_v1_b-dbeb1030.pth is taken as well: told by its names.",),
    ),
    Entry(
        name="mvit_base_32x3",
        package=_PACKAGE,
        modalities=("video",),
        dim="768",
        metric="COSINE",
        presets={"towhee": _towhee(32), "zoo": _zoo(32, 3)},
        parameters="36.6 M",
        gmacs="170.4",
        licence="Apache-2.0 (pytorchvideo), weights trained on Kinetics-400",
        source="arXiv 2104.11227, github.com/facebookresearch/pytorchvideo",
        obtain=(
            f"`curl -LO {_ZOO}/MVIT_B_32x3_f294077834.pyth`, then --weights "
            f"MVIT_B_32x3_f294077834.pyth. {_SAFETY}"
        ),
        published=(
            "Kinetics-400 top-1 80.30, top-5 94.69 (5 windows, zoo); Towhee's reverse video "
            "search, 20 queries to 200 clips: mHR@10 0.785, mAP@10 0.829 (towhee)"
        ),
    ),
    Entry(
        name="mvit_v1_b",
        package=_PACKAGE,
        modalities=("video",),
        dim="768",
        metric="COSINE",
        presets={"torchvision": _TORCHVISION},
        parameters="36.6 M",
        gmacs="354 (5 windows of 70.8)",
        licence="BSD-3-Clause (torchvision), weights ported from pytorchvideo",
        source="arXiv 2104.11227, github.com/pytorch/vision",
        obtain=(
            "`curl -LO https://download.pytorch.org/models/mvit_v1_b-dbeb1030.pth`, then "
            "--weights mvit_v1_b-dbeb1030.pth."
        ),
        published="Kinetics-400 top-1 78.477, top-5 93.582 (5 windows, torchvision)",
        notes=("pytorchvideo's MVIT_B_16x4.pyth is taken as well: told by its names.",),
    ),
    Entry(
        name="mvit_v2_s",
        package=_PACKAGE,
        modalities=("video",),
        dim="768",
        metric="COSINE",
        presets={"torchvision": _TORCHVISION},
        parameters="34.5 M",
        gmacs="322 (5 windows of 64.5)",
        licence="BSD-3-Clause (torchvision), weights ported from SlowFast",
        source="arXiv 2112.01526, github.com/pytorch/vision",
        obtain=(
            "`curl -LO https://download.pytorch.org/models/mvit_v2_s-ae3be167.pth`, then "
            "--weights mvit_v2_s-ae3be167.pth."
        ),
        published="Kinetics-400 top-1 80.757, top-5 94.665 (5 windows, torchvision)",
    ),
)
