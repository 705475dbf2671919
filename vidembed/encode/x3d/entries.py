"""The rows of this family in the table of encoders."""

from __future__ import annotations

from functools import partial

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_SAFETY = (
    "Its tensors lie under model_state. Where the file is refused because it holds more than "
    "tensors, convert it once as the message says."
)


def _presets(frames: int, stride: int, side: int) -> dict[str, Preset]:
    """stride: of frames at 30 a second in the zoo's test."""
    resize = Resize(short_side=side, crop=side, interpolation="torch_bilinear")
    seconds = frames * stride / 30
    zoo = Sampling(kind="uniform", count=frames, windows=10, seconds=seconds, placement="parts")
    return {
        "towhee": Preset(
            f"Towhee's: {frames} uniform over the whole video",
            ClipSpec(sampling=Sampling(kind="uniform", count=frames), resize=resize),
        ),
        "zoo": Preset(
            f"the zoo's test, its centre crop: 10 windows of {seconds:.3g} s",
            ClipSpec(sampling=zoo, resize=resize),
        ),
    }


def _zoo_of(first: float, fifth: float) -> str:
    return f"Kinetics-400 top-1 {first}, top-5 {fifth} (10 windows x 3 crops of the zoo)"


def _obtain(file: str) -> str:
    return f"`curl -LO {_ZOO}/{file}`, then --weights {file}. {_SAFETY}"


_SEARCH = "Towhee's reverse video search, 20 queries to 200 clips (towhee)"
_M = _presets(16, 5, 256)

_entry = partial(
    Entry,
    package="vidembed.encode.x3d",
    modalities=("video",),
    dim="2048",
    licence="Apache-2.0 (pytorchvideo), weights trained on Kinetics-400",
    source="arXiv 2004.04730, github.com/facebookresearch/pytorchvideo",
)

ENTRIES = (
    _entry(
        name="x3d_m",
        metric="COSINE",
        presets=_M,
        parameters="3.8 M",
        gmacs="6.4",
        obtain=_obtain("X3D_M.pyth"),
        published=f"{_zoo_of(75.94, 92.72)}; {_SEARCH}: mHR@10 0.66, mAP@10 0.738",
    ),
    _entry(
        name="x3d_m_raw",
        metric="L2",
        presets=_M,
        parameters="3.8 M",
        gmacs="6.4",
        obtain=_obtain("X3D_M.pyth"),
        published=f"{_SEARCH}: mHR@10 0.57, mAP@10 0.660",
        notes=("The vectors of x3d_m as they leave the network, compared by distance.",),
    ),
    _entry(
        name="x3d_xs",
        metric="COSINE",
        presets=_presets(4, 12, 182),
        parameters="3.8 M",
        gmacs="0.87",
        obtain=_obtain("X3D_XS.pyth"),
        published=_zoo_of(69.12, 88.63),
    ),
    _entry(
        name="x3d_s",
        metric="COSINE",
        presets=_presets(13, 6, 182),
        parameters="3.8 M",
        gmacs="2.8",
        obtain=_obtain("X3D_S.pyth"),
        published=_zoo_of(73.33, 91.27),
    ),
    _entry(
        name="x3d_l",
        metric="COSINE",
        presets=_presets(16, 5, 356),
        parameters="6.2 M",
        gmacs="25.5",
        half=False,
        obtain=_obtain("X3D_L.pyth"),
        published=_zoo_of(77.44, 93.31),
    ),
)
