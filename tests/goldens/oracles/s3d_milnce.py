"""S3D MIL-NCE computed from its description, tensor by tensor, for there is no package of it.

Independent of vidembed and of the reference's code: plain functions over a dictionary of tensors,
with padding, pools and the folding of frames written out. Only the preprocessing is done by the
libraries that the references use: Pillow for the `paper` preset, OpenCV for `tfhub`.
"""

from __future__ import annotations

import math
import re

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from tests.goldens import seeded
from tests.helpers.s3d import CLIPS, TEXTS, WIDTHS, WORDS, weights


def _norm(w, name, x):
    view = (1, -1, 1, 1, 1)
    scale = w[f"{name}.weight"] / torch.sqrt(w[f"{name}.running_var"] + 1e-5)
    shift = w[f"{name}.bias"] - w[f"{name}.running_mean"] * scale
    return x * scale.view(view) + shift.view(view)


def _relu(x):
    return torch.clamp(x, min=0)


def _conv(w, name, x, **options):
    return _relu(_norm(w, f"{name}.bn1", F.conv3d(x, w[f"{name}.conv1.weight"], **options)))


def _separable(w, name, x):
    x = _conv(w, name, x, padding=(0, 1, 1))
    x = F.conv3d(x, w[f"{name}.conv2.weight"], padding=(1, 0, 0))
    return _relu(_norm(w, f"{name}.bn2", x))


def _pool(x, kernel, stride):
    """Zeros so that kernel - stride are there, the smaller half in front; then windows as long as
    one begins, of which the last may hang over.
    """
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
        lacking = max(k - s, 0)
        front = lacking // 2
        size = x.shape[axis] + lacking
        windows = math.ceil((size - k) / s) + 1
        if (windows - 1) * s >= size:
            windows -= 1
        parts = []
        for n in range(windows):
            places = [p - front for p in range(n * s, min(n * s + k, size))]
            inside = [p for p in places if 0 <= p < x.shape[axis]]
            part = x.index_select(axis, torch.tensor(inside)).amax(dim=axis, keepdim=True)
            parts.append(part if len(inside) == len(places) else torch.clamp(part, min=0))
        x = torch.cat(parts, dim=axis)
    return x


def _gate(w, name, x):
    mean = x.flatten(2).mean(dim=2)
    weight = 1 / (1 + torch.exp(-(mean @ w[f"{name}.fc.weight"].T + w[f"{name}.fc.bias"])))
    return weight.view(*weight.shape, 1, 1, 1) * x


def _mixed(w, name, x):
    b0 = _conv(w, f"{name}.conv_b0", x)
    b1 = _separable(w, f"{name}.conv_b1_b", _conv(w, f"{name}.conv_b1_a", x))
    b2 = _separable(w, f"{name}.conv_b2_b", _conv(w, f"{name}.conv_b2_a", x))
    b3 = _conv(w, f"{name}.conv_b3_b", F.max_pool3d(x, 3, stride=1, padding=1))
    branches = (b0, b1, b2, b3)
    return torch.cat([_gate(w, f"{name}.gating_b{k}", b) for k, b in enumerate(branches)], 1)


def video(w, x):
    """[n, 3, t, h, w] in [0, 1] to [n, 512]."""
    if w["conv1.conv1.weight"].shape[1] == 24:
        cells = [x[:, :, a::2, b::2, c::2] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        x = _conv(w, "conv1", torch.cat(cells, dim=1), padding=(1, 2, 2))[:, :, 1:, 1:, 1:]
    else:
        x = _conv(w, "conv1", x, stride=2, padding=(1, 3, 3))
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _gate(w, "gating", _separable(w, "conv_2c", _conv(w, "conv_2b", x)))
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    for name in WIDTHS:
        if name == "4b":
            x = _pool(x, (3, 3, 3), (2, 2, 2))
        if name == "5b":
            x = _pool(x, (2, 2, 2), (2, 2, 2))
        x = _mixed(w, f"mixed_{name}", x)
    return x.flatten(2).mean(dim=2) @ w["fc.weight"].T + w["fc.bias"]


def text(w, texts, length):
    rows = {word: k + 1 for k, word in enumerate(WORDS)}
    ids = np.zeros((len(texts), length), int)
    for k, one in enumerate(texts):
        known = [rows[word] for word in re.findall(r"[\w']+", one.lower()) if word in rows]
        ids[k, : min(length, len(known))] = known[:length]
    x = w["text_module.word_embd.weight"][torch.from_numpy(ids)]
    x = _relu(x @ w["text_module.fc1.weight"].T + w["text_module.fc1.bias"])
    x = x.max(dim=1).values
    return x @ w["text_module.fc2.weight"].T + w["text_module.fc2.bias"]


def pillow(frame: np.ndarray) -> np.ndarray:
    side = min(frame.shape[:2])
    top, left = ((n - side) // 4 * 2 for n in frame.shape[:2])
    square = Image.fromarray(frame[top : top + side, left : left + side])
    return np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC))


def opencv(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return cv2.resize(frame[top : top + side, left : left + side], (224, 224))


def _clip(scale, frames, height, width, seed):
    clip = np.stack([scale(frame) for frame in seeded.clip(frames, height, width, seed)])
    return torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 255


def make() -> dict[str, dict[str, np.ndarray]]:
    torch.set_num_threads(1)
    w, plain = (
        {
            name: torch.from_numpy(np.asarray(value))
            for name, value in weights(folded=folded).items()
        }
        for folded in (True, False)
    )
    with torch.inference_mode():
        out = {
            "paper": torch.cat([video(w, _clip(pillow, *clip)) for clip in CLIPS]),
            "tfhub": torch.cat([video(w, _clip(opencv, *clip)) for clip in CLIPS[1:3]]),
            "plain": torch.cat([video(plain, _clip(pillow, *clip)) for clip in CLIPS[2:]]),
            "texts": text(w, TEXTS, 16),
            "plain_texts": text(plain, TEXTS, 30),
        }
    return {"s3d_milnce": {name: tensor.numpy() for name, tensor in out.items()}}
