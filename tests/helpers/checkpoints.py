"""Tiny CLIP4Clip checkpoints with random weights, and what their vectors are.

Names, shapes and arithmetic are written here from the reference's description (ArrowLuo/CLIP4Clip),
with nothing of vidembed: an oracle for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

VISION, TEXT, DIM = 128, 64, 128
IMAGE, PATCH, LAYERS, HEAD_LAYERS = 16, 8, 2, 4
VOCABULARY, CONTEXT = 49408, 77
HEADS = ("meanP", "seqLSTM", "seqTransf")
"""Those with vectors; "tightTransf" has scores."""
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
DEVIATION = torch.tensor((0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, kw_only=True)
class Size:
    """Widths and depths of a CLIP and of CLIP4Clip's heads; the defaults are the tiny one's."""

    vision: int = VISION
    text: int = TEXT
    dim: int = DIM
    image: int = IMAGE
    patch: int = PATCH
    layers: int = LAYERS
    head_layers: int = HEAD_LAYERS


def vit_b(patch: int, layers: int = 12) -> Size:
    """ViT-B with OpenAI's sizes, as deep as is wanted."""
    return Size(vision=768, text=512, dim=512, image=224, patch=patch, layers=layers)


def reference_shapes(
    head: str = "meanP",
    size: Size = Size(),
    *,
    spans_frames: bool = False,
    prefix: str = "clip.",
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict that CLIP4Clip's training writes; with linear_patch 3d, if
    so; OpenAI's own names without the prefix.
    """
    patches, dim = (size.image // size.patch) ** 2, size.dim
    found: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "positional_embedding": (CONTEXT, size.text),
        "token_embedding.weight": (VOCABULARY, size.text),
        "text_projection": (size.text, dim),
        "visual.class_embedding": (size.vision,),
        "visual.positional_embedding": (patches + 1, size.vision),
        "visual.conv1.weight": (size.vision, 3, size.patch, size.patch),
        "visual.proj": (size.vision, dim),
    }
    if spans_frames:
        found["visual.conv2.weight"] = (size.vision, 3, 3, size.patch, size.patch)
    found |= _pair("ln_final", size.text)
    found |= _pair("visual.ln_pre", size.vision) | _pair("visual.ln_post", size.vision)
    found |= _block_shapes("transformer", size.text, size.layers)
    found |= _block_shapes("visual.transformer", size.vision, size.layers)
    return {prefix + name: shape for name, shape in found.items()} | _head_shapes(head, size)


def _head_shapes(head: str, size: Size) -> dict[str, tuple[int, ...]]:
    dim = size.dim
    if head == "meanP":
        return {}
    if head == "tightTransf":
        return {
            "cross.embeddings.position_embeddings.weight": (CONTEXT, dim),
            **_block_shapes("cross.transformer", dim, size.head_layers),
            **_pair("cross.pooler.ln_pool", dim),
            **_pair("cross.pooler.dense", dim, dim),
            **_pair("similarity_dense", 1, dim),
        }
    found: dict[str, tuple[int, ...]] = {"frame_position_embeddings.weight": (CONTEXT, dim)}
    if head == "seqTransf":
        return found | _block_shapes("transformerClip", dim, size.head_layers)
    for kind in ("ih", "hh"):
        found[f"lstm_visual.weight_{kind}_l0"] = (4 * dim, dim)
        found[f"lstm_visual.bias_{kind}_l0"] = (4 * dim,)
    return found


def _pair(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _block_shapes(name: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for n in range(layers):
        block = f"{name}.resblocks.{n}"
        found[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        found[f"{block}.attn.in_proj_bias"] = (3 * width,)
        found |= _pair(f"{block}.attn.out_proj", width, width)
        found |= _pair(f"{block}.mlp.c_fc", 4 * width, width)
        found |= _pair(f"{block}.mlp.c_proj", width, 4 * width)
        found |= _pair(f"{block}.ln_1", width) | _pair(f"{block}.ln_2", width)
    return found


def reference_state(
    head: str = "meanP", seed: int = 0, *, spans_frames: bool = False
) -> dict[str, Tensor]:
    """A tiny state dict in the reference's layout, float32."""
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in reference_shapes(head, spans_frames=spans_frames).items():
        scale = 1.0 if name == "similarity_dense.weight" else 0.08
        tensor = torch.randn(shape, generator=draw) * scale
        is_norm = ".ln_" in name and name.endswith("weight")
        state[name] = 1 + tensor if is_norm else tensor
    return state | {"clip.logit_scale": torch.tensor(4.6)}


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With float16 where the reference has it: the convolution, projections and linear layers."""
    heads = ("transformerClip", "lstm_visual", "cross", "similarity_dense")
    kept = ("ln_", "embedding", "logit_scale", *heads)
    return {k: v if any(word in k for word in kept) else v.half() for k, v in state.items()}


def reference_video(state: dict[str, Tensor], pixels: Tensor, mask: Tensor) -> Tensor:
    """uint8 [batch, frames, 16, 16, 3] and mask [batch, frames] to unit vectors [batch, dim]."""
    frames = mask.shape[1]
    features = reference_frames(state, pixels, mask)
    mask = mask.float()
    if "lstm_visual.weight_ih_l0" in state:
        features = features + _lstm(state, features)
    elif "transformerClip.resblocks.0.ln_1.weight" in state:
        x = features + state["frame_position_embeddings.weight"][:frames]
        bias = ((1 - mask) * -1e6)[:, None, None, :]
        features = features + _blocks(state, "transformerClip", x, bias, eps=1e-12)
    features = functional.normalize(features, dim=-1) * mask[..., None]
    return functional.normalize(features.sum(1) / mask.sum(1, keepdim=True).clamp(min=1), dim=-1)


def reference_frames(state: dict[str, Tensor], pixels: Tensor, mask: Tensor) -> Tensor:
    """uint8 [batch, frames, 16, 16, 3] and mask to features [batch, frames, dim]: all frames go
    through the image tower, those of the padding as zeros.
    """
    images = ((pixels.float() / 255 - MEAN) / DEVIATION).permute(0, 4, 1, 2, 3)
    images = images * mask[:, None, :, None, None].float()
    if "clip.visual.conv2.weight" in state:
        kernel = state["clip.visual.conv2.weight"]
        patches = functional.conv3d(images, kernel, stride=(1, PATCH, PATCH), padding=(1, 0, 0))
        patches = patches.transpose(1, 2).flatten(0, 1)
    else:
        flat = images.transpose(1, 2).flatten(0, 1)
        patches = functional.conv2d(flat, state["clip.visual.conv1.weight"], stride=PATCH)
    return _image_tower(state, patches).view(*mask.shape, DIM)


def reference_scores(state: dict[str, Tensor], ids: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """Token ids [texts, length] and clips to the scores of tightTransf [texts, clips], one pair
    at a time.
    """
    words, frames = reference_words(state, ids), reference_frames(state, pixels, mask)
    scores = torch.zeros(len(words), len(frames))
    for i, word in enumerate(words):
        for j, clip in enumerate(frames):
            x = torch.cat([word[None], clip])[None]
            x = x + state["cross.embeddings.position_embeddings.weight"][: x.shape[1]]
            bias = torch.cat([torch.zeros(1), (1 - mask[j].float()) * -1e6])[None, None, None]
            x = _blocks(state, "cross.transformer", x, bias, eps=1e-12)
            first = _norm(state, "cross.pooler.ln_pool", x, eps=1e-12)[:, 0]
            dense = _linear(state, "cross.pooler.dense", first)
            active = dense * torch.sigmoid(1.702 * dense)
            scores[i, j] = _linear(state, "similarity_dense", active)[0, 0]
    return scores


def reference_text(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Token ids [n, length] to unit vectors [n, dim]."""
    return functional.normalize(reference_words(state, ids), dim=-1)


def reference_words(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Token ids [n, length] to projected features [n, dim]."""
    length = ids.shape[1]
    x = state["clip.token_embedding.weight"][ids] + state["clip.positional_embedding"][:length]
    causal = torch.full((length, length), float("-inf")).triu(1)
    x = _norm(state, "clip.ln_final", _blocks(state, "clip.transformer", x, causal))
    end = x[torch.arange(len(ids)), ids.argmax(dim=-1)]
    return end @ state["clip.text_projection"]


def _image_tower(state: dict[str, Tensor], patches: Tensor) -> Tensor:
    tokens = patches.flatten(2).transpose(1, 2)
    first = state["clip.visual.class_embedding"].expand(len(patches), 1, -1)
    x = torch.cat([first, tokens], dim=1) + state["clip.visual.positional_embedding"]
    x = _norm(state, "clip.visual.ln_pre", x)
    x = _blocks(state, "clip.visual.transformer", x, torch.zeros(1))
    return _norm(state, "clip.visual.ln_post", x[:, 0]) @ state["clip.visual.proj"]


def _blocks(
    state: dict[str, Tensor], name: str, x: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    layers = len({k.split("resblocks.")[1].split(".")[0] for k in state if k.startswith(name)})
    for n in range(layers):
        block = f"{name}.resblocks.{n}"
        x = x + _attention(state, f"{block}.attn", _norm(state, f"{block}.ln_1", x, eps), bias)
        inner = _linear(state, f"{block}.mlp.c_fc", _norm(state, f"{block}.ln_2", x, eps))
        x = x + _linear(state, f"{block}.mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
    return x


def _attention(state: dict[str, Tensor], name: str, x: Tensor, bias: Tensor) -> Tensor:
    fused = functional.linear(x, state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"])
    heads = [part.unflatten(-1, (-1, 64)).transpose(1, 2) for part in fused.chunk(3, dim=-1)]
    query, key, value = heads
    weights = (query @ key.transpose(-1, -2) / 8 + bias).softmax(dim=-1)
    return _linear(state, f"{name}.out_proj", (weights @ value).transpose(1, 2).flatten(2))


def _lstm(state: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = cell = x.new_zeros(len(x), DIM)
    out = []
    for t in range(x.shape[1]):
        gates = functional.linear(
            x[:, t], state["lstm_visual.weight_ih_l0"], state["lstm_visual.bias_ih_l0"]
        ) + functional.linear(
            hidden, state["lstm_visual.weight_hh_l0"], state["lstm_visual.bias_hh_l0"]
        )
        i, f, g, o = gates.chunk(4, dim=-1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        out.append(hidden)
    return torch.stack(out, dim=1)


def _norm(state: dict[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    width = (x.shape[-1],)
    return functional.layer_norm(x, width, state[f"{name}.weight"], state[f"{name}.bias"], eps)


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


_HUGGING_FACE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_HUGGING_FACE_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def hugging_face_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP part of a reference state under transformers' names."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = name.removeprefix("clip.")
        if key == "text_projection":
            found["text_projection.weight"] = tensor.T.contiguous()
        elif key == "visual.proj":
            found["visual_projection.weight"] = tensor.T.contiguous()
        elif "resblocks." in key:
            tower = "vision" if key.startswith("visual.") else "text"
            number, _, rest = key.split("resblocks.")[1].partition(".")
            block = f"{tower}_model.encoder.layers.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for part, third in zip("qkv", tensor.chunk(3), strict=True):
                    found[f"{block}.self_attn.{part}_proj.{kind}"] = third.contiguous()
            else:
                module, _, kind = rest.rpartition(".")
                found[f"{block}.{_HUGGING_FACE_BLOCK[module]}.{kind}"] = tensor
        elif key in _HUGGING_FACE:
            found[_HUGGING_FACE[key]] = tensor
        else:
            module, _, kind = key.rpartition(".")
            found[f"{_HUGGING_FACE[module]}.{kind}"] = tensor
    return found


def hugging_face_config() -> dict:
    def tower(width: int) -> dict:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": width // 64,
            "hidden_act": "quick_gelu",
        }

    return {
        "model_type": "clip",
        "projection_dim": DIM,
        "text_config": tower(TEXT)
        | {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": 2},
        "vision_config": tower(VISION) | {"image_size": IMAGE, "patch_size": PATCH},
    }


def write_reference(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def write_hugging_face(folder: Path, state: dict[str, Tensor], *, pickled: bool = False) -> Path:
    """A folder as `save_pretrained` leaves it; the tokenizer's files are not needed."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hugging_face_config()))
    tensors = hugging_face_tensors(state)
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
