"""Checkpoints of PE-Core as open_clip writes them: names and shapes of their tensors. No torch.

The names are the file's own: timm's below `visual.trunk.`, open_clip's below `text.`
(`open_clip_model.safetensors` of timm/PE-Core-*).
"""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]

VOCABULARY = 49408
POOL_HEADS = 8
POSITIONS = "visual.trunk.pos_embed"
_HEAD_SIZE = 64
_MLP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """label: of the paper; image, patch: sides in pixels; context: tokens of a text."""

    label: str
    image: int
    patch: int
    width: int
    depth: int
    dim: int
    text_width: int
    text_depth: int
    context: int = 32

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image // self.patch

    @property
    def positions(self) -> Shape:
        """Of the table of absolute positions, which no two of them share."""
        return (1, self.grid**2 + 1, self.width)

    @property
    def heads(self) -> int:
        return self.width // _HEAD_SIZE

    @property
    def text_heads(self) -> int:
        return self.text_width // _HEAD_SIZE


ARCHITECTURES = {
    "pe_core_t": Architecture(
        label="PE-Core T/16",
        image=384,
        patch=16,
        width=192,
        depth=12,
        dim=512,
        text_width=512,
        text_depth=12,
    ),
    "pe_core_b": Architecture(
        label="PE-Core B/16",
        image=224,
        patch=16,
        width=768,
        depth=12,
        dim=1024,
        text_width=1024,
        text_depth=24,
    ),
    "pe_core_l": Architecture(
        label="PE-Core L/14",
        image=336,
        patch=14,
        width=1024,
        depth=24,
        dim=1024,
        text_width=1024,
        text_depth=24,
    ),
}


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Every parameter of the network and its shape."""
    return {"logit_scale": ()} | visual_shapes(architecture) | _text_shapes(architecture)


def visual_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Those of the image tower."""
    width, patch, at = architecture.width, architecture.patch, "visual.trunk"
    shapes: dict[str, Shape] = {
        f"{at}.cls_token": (1, 1, width),
        POSITIONS: architecture.positions,
        f"{at}.patch_embed.proj.weight": (width, 3, patch, patch),
        f"{at}.attn_pool.latent": (1, 1, width),
    }
    shapes |= _pair(f"{at}.norm_pre", width) | _pair(f"{at}.norm", width)
    for n in range(architecture.depth):
        block = f"{at}.blocks.{n}"
        shapes |= _pair(f"{block}.norm1", width) | _pair(f"{block}.norm2", width)
        shapes |= _pair(f"{block}.attn.qkv", 3 * width, width)
        shapes |= _pair(f"{block}.attn.proj", width, width)
        shapes |= _pair(f"{block}.mlp.fc1", _MLP * width, width)
        shapes |= _pair(f"{block}.mlp.fc2", width, _MLP * width)
    pool = f"{at}.attn_pool"
    shapes |= _pair(f"{pool}.q", width, width) | _pair(f"{pool}.kv", 2 * width, width)
    shapes |= _pair(f"{pool}.proj", width, width) | _pair(f"{pool}.norm", width)
    shapes |= _pair(f"{pool}.mlp.fc1", _MLP * width, width)
    shapes |= _pair(f"{pool}.mlp.fc2", width, _MLP * width)
    return shapes | _pair(f"{at}.head", architecture.dim, width)


def _text_shapes(architecture: Architecture) -> dict[str, Shape]:
    width = architecture.text_width
    shapes: dict[str, Shape] = {
        "text.positional_embedding": (architecture.context, width),
        "text.text_projection": (width, architecture.dim),
        "text.token_embedding.weight": (VOCABULARY, width),
    }
    for n in range(architecture.text_depth):
        block = f"text.transformer.resblocks.{n}"
        shapes |= _pair(f"{block}.ln_1", width) | _pair(f"{block}.ln_2", width)
        shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
        shapes |= _pair(f"{block}.attn.out_proj", width, width)
        shapes |= _pair(f"{block}.mlp.c_fc", _MLP * width, width)
        shapes |= _pair(f"{block}.mlp.c_proj", width, _MLP * width)
    return shapes | _pair("text.ln_final", width)


def _pair(name: str, *shape: int) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
