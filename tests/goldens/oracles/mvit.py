"""MViT of pytorchvideo 0.1.5 and torchvision 0.28.0, with the sampling and scaling of both."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.goldens import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

# Name: clips as frames, height, width and seed, and what is done with them, each as short side,
# which is the crop too where it is 224.
CLIPS = {
    "mvit_base_16x4": ([(16, 243, 321, 1), (16, 299, 227, 2)], 224),
    "mvit_base_32x3": ([(32, 227, 299, 3)], 256),
    "mvit_v1_b": ([(16, 243, 321, 1)], 256),
    "mvit_v2_s": ([(16, 243, 321, 4), (16, 299, 227, 5)], 256),
}
# Frames and frame rate of videos whose windows are kept.
VIDEOS = [
    (300, "30"), (301, "30"), (287, "30000/1001"), (250, "25"), (251, "25"), (24, "24"),
    (1799, "60000/1001"), (77, "15"), (48, "12"), (5, "2"), (64, "30"), (97, "24000/1001"),
]  # fmt: skip
# Windows, frames of each, and their seconds: 16x4 and 32x3 of MViT, XS, S and M of X3D.
ZOO = [(5, 16, 4), (5, 32, 3), (10, 4, 12), (10, 13, 6), (10, 16, 5)]


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Small where a normalisation follows, so that its epsilon shows."""
    found = seeded.weights(shapes)
    small = ("patch_model", "conv_proj", "pos_e", "cls_positional", ".pool_")
    for name, tensor in found.items():
        if any(part in name for part in small) and "norm" not in name:
            tensor *= np.float32(0.02)
        if "rel_pos" in name:
            tensor *= np.float32(0.3)
    return found


def make() -> dict[str, dict[str, np.ndarray]]:
    """Arrays by file and key."""
    from tests.goldens.oracles.shim import torchvision  # noqa: I001

    import torch
    from pytorchvideo.models import hub

    torch.set_num_threads(1)
    video = torchvision.models.video
    found = {"mvit_sampling": _sampling(), "mvit_scaling": _scaling()}
    for name, (clips, side) in CLIPS.items():
        of_pytorchvideo = name.startswith("mvit_base")
        network = getattr(hub if of_pytorchvideo else video, name)().eval()
        shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        state = {k: torch.from_numpy(v) for k, v in weights(shapes).items()}
        network.load_state_dict(state)
        parameters = sum(p.numel() for p in network.parameters())
        network.head = torch.nn.Identity()
        prepare = _float_prepared if of_pytorchvideo else _torchvision_prepared
        with torch.inference_mode():
            prepared = torch.cat([prepare(seeded.clip(*clip), side) for clip in clips])
            vectors = network(prepared)
        if of_pytorchvideo:
            vectors = vectors[:, 0]
        found[name] = {
            "shapes": np.array(json.dumps(shapes)),
            "parameters": np.array(parameters),
            "vectors": vectors.numpy(),
        }
    return found


def _float_prepared(clip: np.ndarray, side: int) -> Any:
    import torch
    from pytorchvideo.transforms import ShortSideScale
    from torchvision.transforms._transforms_video import CenterCropVideo, NormalizeVideo

    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2).float() / 255
    pixels = NormalizeVideo([0.45] * 3, [0.225] * 3)(pixels)
    return CenterCropVideo(224)(ShortSideScale(side)(pixels))[None]


def _torchvision_prepared(clip: np.ndarray, side: int) -> Any:
    import torch
    import torchvision

    transforms = torchvision.models.video.MViT_V2_S_Weights.DEFAULT.transforms()
    first = torchvision.models.video.MViT_V1_B_Weights.DEFAULT.transforms()
    assert str(first) == str(transforms)
    assert transforms.resize_size == [side]
    return transforms(torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous())[None]


def _scaling() -> dict[str, np.ndarray]:
    """Sizes after pytorchvideo's scaling, where dividing first makes a difference or not."""
    import torch
    from pytorchvideo.transforms.functional import short_side_scale

    sizes, scaled = [], []
    draw = np.random.RandomState(0)
    for short in (224, 256, 182, 356):
        tried = draw.randint(60, 1300, (4000, 2))
        odd = [
            (h, w)
            for h, w in tried.tolist()
            if int(max(h, w) / min(h, w) * short) != int(short * max(h, w) / min(h, w))
            and max(h, w) < 3 * min(h, w)
        ]
        for h, w in [*odd[:6], (243, 321), (299, 227), (1080, 1920), (256, 256)]:
            found = short_side_scale(torch.zeros(1, 1, h, w), short).shape[2:]
            sizes.append((h, w, short))
            scaled.append(tuple(found))
    return {"sizes": np.array(sizes), "scaled": np.array(scaled)}


def _sampling() -> dict[str, np.ndarray]:
    found = {}
    for frames, rate in VIDEOS:
        of_zoo = [_zoo_windows(frames, Fraction(rate), *rule) for rule in ZOO]
        found[f"zoo {frames} {rate}"] = np.concatenate(of_zoo).astype(np.int16)
        found[f"torchvision {frames} {rate}"] = _torchvision_windows(frames, Fraction(rate))
    return {k: v for k, v in found.items() if len(v)}


def _zoo_windows(frames: int, rate: Fraction, windows: int, count: int, stride: int) -> np.ndarray:
    import torch
    from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler
    from pytorchvideo.data.utils import secs_to_pts
    from pytorchvideo.transforms.functional import uniform_temporal_subsample

    base = Fraction(1, rate.numerator * 512)
    pts = np.arange(frames) * (rate.denominator * 512)
    # As a fraction, which the sampler takes as well: a float's last place would decide whether a
    # frame that begins exactly with a window's edge is in it.
    sampler = ConstantClipsPerVideoSampler(Fraction(count * stride, 30), windows)
    found: list[int] = []
    for k in range(windows):
        info = sampler(0.0, frames / rate, {})
        assert info.clip_index == k
        first, last = (
            secs_to_pts(at, base, 0, round_mode="ceil")
            for at in (info.clip_start_sec, info.clip_end_sec)
        )
        inside = torch.from_numpy(np.flatnonzero((pts >= first) & (pts < last)))
        if not len(inside):
            raise ValueError("a window without a frame")
        found += uniform_temporal_subsample(inside, count, temporal_dim=0).tolist()
    return np.array(found)


def _torchvision_windows(frames: int, rate: Fraction) -> np.ndarray:
    import torch
    from torchvision.datasets.samplers import UniformClipSampler
    from torchvision.datasets.video_utils import VideoClips

    clips, _ = VideoClips.compute_clips_for_video(torch.arange(frames), 16, 1, float(rate), 7.5)
    if not len(clips):
        return np.array([], np.int64)
    videos = VideoClips.__new__(VideoClips)
    videos.clips = [clips]
    return clips[list(UniformClipSampler(videos, 5))].numpy().ravel().astype(np.int16)
