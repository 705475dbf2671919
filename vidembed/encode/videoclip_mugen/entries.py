"""The row of this family in the table of encoders."""

from __future__ import annotations

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.entry import Entry, Preset

_RESIZE = Resize(short_side=224, crop=224, interpolation="torch_bilinear_uint8", fit="squash")
_TORCHMULTIMODAL = ClipSpec(sampling=Sampling(kind="nearest", count=32), resize=_RESIZE)
_MUGEN = ClipSpec(sampling=Sampling(kind="fps", count=32, fps=10.0, seconds=3.2), resize=_RESIZE)
_ADDRESS = "https://pytorch.s3.amazonaws.com/models/multimodal/mugen"

ENTRIES = (
    Entry(
        name="videoclip_mugen",
        package="vidembed.encode.videoclip_mugen",
        modalities=("video", "text"),
        dim="256",
        metric="COSINE",
        presets={
            "torchmultimodal": Preset("its VideoTransform: 32 over the video", _TORCHMULTIMODAL),
            "mugen": Preset("MUGEN's clips: 32 at 10 fps, in the middle", _MUGEN),
        },
        parameters="74.9 M (video 8.2 M, text 66.6 M)",
        gmacs="36.1",
        licence="BSD-3-Clause (code); the weights' own",
        source="arXiv 2204.08058, github.com/facebookresearch/multimodal examples/mugen/retrieval",
        obtain=(
            f"`wget {_ADDRESS}/videoclip_mugen.pt` (or videoclip_lightning_mugen.pt), then "
            f"--weights videoclip_mugen.pt. Checkpoints of MUGEN_baseline are read too."
        ),
        published=(
            "MUGEN test set, text to video R@1/5/10 8.26/22.34/31.68, video to text "
            "10.79/25.70/34.60 (TorchMultimodal's README)."
        ),
        notes=("It was trained on clips of one video game, and knows little of real footage.",),
    ),
)
