"""Small Hugging Face folders of transformers' video and image models, with weights from a seed.

Configurations, names around the weights and tokenizers are as the published folders have them; the
depths and widths are not. Used here and where the goldens are made; nothing of vidembed is needed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.goldens import seeded

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "a dog runs",
    "Hello, World!",
    "",
    "Two people's dogs run -- and a cat, too; the cat runs after the dogs " * 4,
    "x",
]
_TOWER = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_STACKS = {"num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1}

CONFIGS: dict[str, dict[str, Any]] = {
    "siglip": {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "text_config": _TOWER | {"max_position_embeddings": 16, "model_type": "siglip_text_model"},
        "vision_config": _TOWER
        | {"image_size": 32, "patch_size": 8, "model_type": "siglip_vision_model"},
        "torch_dtype": "float32",
    },
    "videoprism": {
        "model_type": "videoprism",
        "architectures": ["VideoPrismClipModel"],
        "text_config": _TOWER | {"max_position_embeddings": 16},
        "vision_config": _TOWER
        | _STACKS
        | {"image_size": 36, "num_frames": 4, "tubelet_size": [1, 18, 18]},
        "dtype": "float32",
    },
    "vjepa2": {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2Model"],
        # A head of 26 is cut in three parts of 8 with 2 left over, as 64 is in 20 with 4.
        "hidden_size": 52,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "patch_size": 8,
        "crop_size": 32,
        "frames_per_clip": 8,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "num_pooler_layers": 1,
    },
    "videomae": {
        "model_type": "videomae",
        "architectures": ["VideoMAEForPreTraining"],
        **_TOWER,
        "image_size": 32,
        "patch_size": 8,
        "num_frames": 4,
        "decoder_hidden_size": 24,
        "decoder_num_attention_heads": 2,
        "decoder_num_hidden_layers": 1,
        "decoder_intermediate_size": 48,
        "qkv_bias": True,
        "use_mean_pooling": False,
    },
    "clip": {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 1,
            "hidden_act": "quick_gelu",
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 2,
            "patch_size": 14,
            "image_size": 56,
            "hidden_act": "quick_gelu",
        },
    },
}
SIGLIP_PIXELS = {
    "do_resize": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": {"height": 32, "width": 32},
}
VIDEOMAE_PIXELS = {
    "do_center_crop": True,
    "do_resize": True,
    "do_normalize": True,
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": {"shortest_edge": 32},
}


def state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights from the seed, with attention that is far from even: what is wrong in it shows."""
    found = seeded.weights(shapes, seed)
    for name, array in found.items():
        words = ("q_proj.weight", "k_proj.weight", ".query.weight", ".key.weight", "in_proj_weight")
        if name.endswith((*words, "pooling_attention_query")):
            array *= 3
    return found


def write(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    **files: dict[str, Any],
) -> Path:
    """A folder as it is on the hub. files: others, by name without `.json`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: np.array(v, order="C") for k, v in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


_LETTERS = "abcdefghijklmnopqrstuvwxyz.,;:!'-"
_WORDS = ("a", "dog", "cat", "run", "hello", "world", "two", "people", "and", "the", "after")


def write_prism_tokenizer(folder: Path) -> int:
    """A Unigram vocabulary laid out like c4_en's: pad 0, end 1, unknown 2. Returns its size."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(letter, -6.0 - n / 100) for n, letter in enumerate(_LETTERS)]
    pieces += [(f"▁{word}", -3.0 - n / 100) for n, word in enumerate(_WORDS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    said = {
        "tokenizer_class": "VideoPrismTokenizer",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "extra_ids": 0,
    }
    return _written(folder, tokenizer, said, len(pieces))


def write_siglip2_tokenizer(folder: Path) -> int:
    """A byte-pair vocabulary laid out like Gemma's, an end and no start around a text. Returns its
    size.
    """
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [*_LETTERS, *_LETTERS[:26].upper(), "▁"]
    merges = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t"), ("▁", "a"), ("r", "u"), ("ru", "n")]
    vocabulary = {t: n for n, t in enumerate([*special, *letters, *("".join(m) for m in merges)])}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, fuse_unk=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "<eos>"], special_tokens=[("<eos>", 1)]
    )
    said = {
        "tokenizer_class": "Siglip2Tokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return _written(folder, tokenizer, said, len(vocabulary))


def _written(folder: Path, tokenizer: Tokenizer, said: dict[str, Any], size: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return size


def with_vocabulary(config: dict[str, Any], size: int) -> dict[str, Any]:
    return config | {"text_config": config["text_config"] | {"vocab_size": size}}
