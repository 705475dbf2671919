"""CLIP's two towers as torch modules, under the parameter names of Hugging Face's files.

transformers has the same network, but importing it takes more than importing torch and building the
network together, in each process that encodes. Source: Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision", arXiv 2103.00020, and its repository openai/CLIP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What a config.json may leave out: the defaults of transformers' CLIPConfig, ViT-B/32's.
_VISION = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_TEXT = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}
_BOTH = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# OpenAI's towers have the first; those of others, who write Hugging Face's files, the second.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": nn.functional.gelu,
}


class Attention(nn.Module):
    """Multi-head self-attention. causal: each place sees those up to it."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self._heads, self._causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=self._causal and x.shape[1] > 1
        )
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self._activation(self.fc1(x)))
        return out


class Layer(nn.Module):
    """One pre-norm block of a tower."""

    def __init__(self, config: Mapping[str, Any], *, causal: bool) -> None:
        super().__init__()
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        heads = config["num_attention_heads"]
        if width % heads:
            raise WeightsError(f"config.json has {heads} attention heads for a width of {width}")
        self.self_attn = Attention(width, heads, causal=causal)
        self.layer_norm1 = nn.LayerNorm(width, eps=epsilon)
        inner = config.get("intermediate_size", 4 * width)
        self.mlp = Mlp(width, inner, _activation(config["hidden_act"]))
        self.layer_norm2 = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Layers(nn.Module):
    def __init__(self, config: Mapping[str, Any], *, causal: bool) -> None:
        super().__init__()
        self.width: int = config["hidden_size"]
        count = config["num_hidden_layers"]
        self.layers = nn.ModuleList(Layer(config, causal=causal) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionEmbeddings(nn.Module):
    """Patches and their places, behind the place of the class."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, patch = config["hidden_size"], config["patch_size"]
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(
            config["num_channels"], width, kernel_size=patch, stride=patch, bias=False
        )
        patches = (config["image_size"] // patch) ** 2
        self.position_embedding = nn.Embedding(patches + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class VisionTower(nn.Module):
    """Normalised pixels [n, channels, height, width] to what the place of the class gathers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = {**_BOTH, **_VISION, **config}
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.embeddings = VisionEmbeddings(config)
        # Spelt as the files have it.
        self.pre_layrnorm = nn.LayerNorm(width, eps=epsilon)
        self.encoder = Layers(config, causal=False)
        self.post_layernorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, pixels: Tensor) -> Tensor:
        """To [n, width]."""
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        pooled: Tensor = self.post_layernorm(hidden[:, 0])
        return pooled


class TextEmbeddings(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.token_embedding = nn.Embedding(config["vocab_size"], width)
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], width)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.token_embedding(ids)
        return found + self.position_embedding.weight[: ids.shape[1]]


class TextTower(nn.Module):
    """Token ids [n, length] to hidden states [n, length, width]."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = {**_BOTH, **_TEXT, **config}
        self.embeddings = TextEmbeddings(config)
        self.encoder = Layers(config, causal=True)
        self.final_layer_norm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.final_layer_norm(self.encoder(self.embeddings(ids)))
        return hidden


class Clip(nn.Module):
    """The towers, and the projections into the space that they share.

    config: that of a Hugging Face folder. Raises WeightsError for one that is no CLIP's.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.vision_model = VisionTower(config["vision_config"])
        self.text_model = TextTower(config["text_config"])
        dim = config.get("projection_dim", 512)
        vision, text = self.vision_model.post_layernorm, self.text_model.final_layer_norm
        self.visual_projection = nn.Linear(vision.normalized_shape[0], dim, bias=False)
        self.text_projection = nn.Linear(text.normalized_shape[0], dim, bias=False)
        # ln(1 / 0.07), as CLIP starts with.
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    try:
        return _ACTIVATIONS[name]
    except KeyError:
        known = ", ".join(_ACTIVATIONS)
        raise WeightsError(f"config.json names the activation {name}; a CLIP has {known}") from None
