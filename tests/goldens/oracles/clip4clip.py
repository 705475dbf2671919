"""CLIP4Clip's and CLIP's vectors by Towhee's port, OpenAI's code and transformers; the pixels by
torchvision; the frames by OpenCV.

The heads have no package: they are put together here from torch's own modules, on OpenAI's towers,
as the paper's repository (ArrowLuo/CLIP4Clip, arXiv 2104.08860) describes them.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.goldens import seeded
from tests.goldens.captions import CAPTIONS
from tests.goldens.oracles.shim import torchvision
from tests.goldens.recipes import CLIPS, FILES, HEADS, SIZES, TEXTS, VALID, config, head_state
from tests.helpers import checkpoints

import clip  # isort: skip
import cv2  # isort: skip
from clip.model import build_model  # isort: skip
from towhee.models import clip4clip  # isort: skip
from transformers import CLIPConfig, CLIPModel  # isort: skip

_T = torchvision.transforms
_PREPROCESS = _T.Compose(
    [
        _T.Resize(224, interpolation=_T.InterpolationMode.BICUBIC),
        _T.CenterCrop(224),
        _T.ToTensor(),
        _T.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ]
)


def make() -> dict[str, dict[str, np.ndarray]]:
    with torch.inference_mode():
        return {
            "clip4clip": {**_towhee(), **_openai(), **_hugging_face(), **_heads()},
            "clip_pixels": _pixels(),
            "clip_frames": _frames(),
        }


def _prepared(frames: np.ndarray) -> torch.Tensor:
    return torch.stack([_PREPROCESS(Image.fromarray(frame)) for frame in frames])


def _videos() -> torch.Tensor:
    """[clips, frames, 3, 224, 224], padding as zeros."""
    videos = torch.stack([_prepared(frames) for frames in CLIPS()])
    for k, n in enumerate(VALID):
        videos[k, n:] = 0
    return videos


def _mask() -> torch.Tensor:
    return (torch.arange(len(CLIPS()[0]))[None] < torch.tensor(VALID)[:, None]).float()


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def _ids(length: int) -> torch.Tensor:
    return clip.tokenize(TEXTS, context_length=length, truncate=True).long()


def _towhee() -> dict[str, np.ndarray]:
    """The whole model at its real size, with weights that were halved as the reference's are."""
    model = clip4clip.create_model(
        "clip_vit_b32", context_length=77, pretrained=False, device="cpu"
    )
    shapes = checkpoints.reference_shapes(size=checkpoints.vit_b(32))
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == shapes
    assert len(shapes) == 302
    state = checkpoints.halved(seeded.torch_state(shapes))
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)
    model.eval()
    mask = _mask()
    words = model.get_sequence_output(_ids(32), shaped=True)
    frames = model.get_visual_output(_videos().flatten(0, 1), mask, shaped=True)
    pooled = _unit(model._mean_pooling_for_similarity_visual(_unit(frames), mask))
    logits, _ = model.get_similarity_logits(words, frames, mask, shaped=True)
    return {
        "towhee_video": pooled.numpy(),
        "towhee_text": _unit(words[:, 0]).numpy(),
        "towhee_logits": logits.numpy(),
    }


def _openai_tower(state: dict[str, torch.Tensor]) -> Any:
    bare = {k.removeprefix("clip."): v for k, v in state.items() if k.startswith("clip.")}
    bare.pop("visual.conv2.weight", None)
    model = build_model(dict(bare)).float()
    # It has halved them on the way.
    model.load_state_dict(bare, strict=True)
    return model.eval()


def _openai() -> dict[str, np.ndarray]:
    size = checkpoints.vit_b(16, layers=2)
    model = _openai_tower(seeded.torch_state(checkpoints.reference_shapes(size=size)))
    first = _videos()[:, 0]
    return {
        "openai_image": _unit(model.encode_image(first)).numpy(),
        "openai_text": _unit(model.encode_text(_ids(77))).numpy(),
    }


def _hugging_face() -> dict[str, np.ndarray]:
    found = {}
    for act in ("quick_gelu", "gelu"):
        model = CLIPModel(CLIPConfig(**config(act))).eval()
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        model.load_state_dict(seeded.torch_state(shapes), strict=True)
        ids = _ids(77)
        # transformers' own tokenizer pads with the end and masks it.
        after = (torch.arange(77)[None] > ids.argmax(dim=-1)[:, None]).int()
        ids = torch.where(after.bool(), 49407, ids)
        texts = model.get_text_features(input_ids=ids, attention_mask=1 - after).pooler_output
        images = model.get_image_features(pixel_values=_videos()[:, 0]).pooler_output
        found |= {f"hf_{act}_image": _unit(images).numpy(), f"hf_{act}_text": _unit(texts).numpy()}
    return found


class _Patches(nn.Module):
    """In the place of the tower's first convolution: patches over the frames of a padded clip."""

    def __init__(self, kernel: torch.Tensor, frames: int) -> None:
        super().__init__()
        width, _, depth, patch, _ = kernel.shape
        step, around = (1, patch, patch), (depth // 2, 0, 0)
        self.conv = nn.Conv3d(3, width, (depth, patch, patch), step, around, bias=False)
        self.conv.weight.data, self.frames = kernel, frames
        # OpenAI's code asks its first convolution for the type of all.
        self.weight = self.conv.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return self.conv(clips).transpose(1, 2).flatten(0, 1)


def _heads() -> dict[str, np.ndarray]:
    found = {}
    mask = _mask()
    for head, spans in HEADS:
        size = checkpoints.vit_b(32, layers=2)
        shapes = checkpoints.reference_shapes(head, size, spans_frames=spans)
        state = head_state(head, shapes)
        model = _openai_tower(state)
        if spans:
            kernel = state["clip.visual.conv2.weight"]
            model.visual.conv1 = _Patches(kernel, mask.shape[1])
        frames = model.encode_image(_videos().flatten(0, 1)).unflatten(0, mask.shape)
        name = head + ("_3d" if spans else "")
        if head == "tightTransf":
            # This tower takes 77 ids; what follows the end of a text changes nothing.
            words = model.encode_text(nn.functional.pad(_ids(32), (0, 77 - 32)))
            found[name] = _tight(state, words, frames, mask).numpy()
            continue
        if head == "seqLSTM":
            frames = frames + _lstm(state, frames)
        if head == "seqTransf":
            positions = state["frame_position_embeddings.weight"][: frames.shape[1]]
            frames = frames + _transformer(state, "transformerClip", frames + positions, mask)
        summed = (_unit(frames) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        found[name] = _unit(summed).numpy()
    return found


def _lstm(state: dict[str, torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
    lstm = nn.LSTM(512, 512, batch_first=True)
    named = "lstm_visual."
    lstm.load_state_dict({k.removeprefix(named): v for k, v in state.items() if named in k})
    lengths = torch.tensor(VALID)
    packed = nn.utils.rnn.pack_padded_sequence(
        frames, lengths, batch_first=True, enforce_sorted=False
    )
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(
        lstm(packed)[0], batch_first=True, total_length=frames.shape[1]
    )
    return unpacked


def _transformer(
    state: dict[str, torch.Tensor], name: str, x: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    bias = ((1 - mask) * -1e6)[:, None, :].expand(-1, mask.shape[1], -1).repeat_interleave(8, dim=0)
    x = x.transpose(0, 1)
    for n in range(4):
        block = f"{name}.resblocks.{n}"
        part = {k.removeprefix(block + "."): v for k, v in state.items() if block in k}
        attention = nn.MultiheadAttention(512, 8)
        attention.load_state_dict(
            {k.removeprefix("attn."): v for k, v in part.items() if k.startswith("attn.")}
        )
        normed = _norm(part, "ln_1", x)
        x = x + attention(normed, normed, normed, need_weights=False, attn_mask=bias)[0]
        inner = nn.functional.linear(
            _norm(part, "ln_2", x), part["mlp.c_fc.weight"], part["mlp.c_fc.bias"]
        )
        inner = inner * torch.sigmoid(1.702 * inner)
        x = x + nn.functional.linear(inner, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    return x.transpose(0, 1)


def _norm(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (
        state[f"{name}.weight"] * (x - mean) / torch.sqrt(deviation + 1e-12) + state[f"{name}.bias"]
    )


def _tight(
    state: dict[str, torch.Tensor], words: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    rows = []
    for word in words:
        pair = torch.cat([word.expand(len(frames), 1, -1), frames], dim=1)
        both = torch.cat([torch.ones(len(frames), 1), mask], dim=1)
        pair = pair + state["cross.embeddings.position_embeddings.weight"][: pair.shape[1]]
        first = _transformer(state, "cross.transformer", pair, both)
        first = _norm(state, "cross.pooler.ln_pool", first)[:, 0]
        dense = nn.functional.linear(
            first, state["cross.pooler.dense.weight"], state["cross.pooler.dense.bias"]
        )
        dense = dense * torch.sigmoid(1.702 * dense)
        rows.append(dense @ state["similarity_dense.weight"][0] + state["similarity_dense.bias"])
    return torch.stack(rows)


def _pixels() -> dict[str, np.ndarray]:
    """Of each size a digest of all pixels before they are normalised, and some of them after."""
    whole = _T.Compose(_PREPROCESS.transforms[:2])
    found = {}
    for height, width in SIZES:
        image = Image.fromarray(seeded.clip(1, height, width)[0])
        pixels = np.asarray(whole(image))
        assert pixels.shape == (224, 224, 3)
        digest = hashlib.sha256(pixels.tobytes()).digest()
        found[f"digest_{height}x{width}"] = np.frombuffer(digest, np.uint8)
        found[f"sample_{height}x{width}"] = pixels[::31, ::31]
        found[f"normalised_{height}x{width}"] = _PREPROCESS(image).numpy()[:, ::31, ::31]
    return found


def _frames() -> dict[str, np.ndarray]:
    """Numbers of the frames that the paper's way of reading with OpenCV gives, as lists ended by
    -1: the first frame of each `int(fps)`, as many as can be read.
    """
    from tests.helpers.videos import frame_number, write_video

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in FILES.items():
            path = write_video(Path(folder) / f"{name}.mp4", **options)
            capture = cv2.VideoCapture(str(path))
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            fps = int(capture.get(cv2.CAP_PROP_FPS))
            numbers = []
            for second in range((count + fps - 1) // fps + 1):
                capture.set(cv2.CAP_PROP_POS_FRAMES, second * fps)
                there, frame = capture.read()
                if not there:
                    break
                numbers.append(frame_number(frame[:, :, ::-1]))
            capture.release()
            found[name] = np.array(numbers, np.int16)
    return found


assert len(CAPTIONS) == 200
