"""MUGEN's VideoCLIP from the pieces that it is made of.

TorchMultimodal's package has the frame that holds both towers, and the preprocessing; the rest of
its example (facebookresearch/multimodal, examples/mugen/retrieval) is not in the package: the video
tower is torchvision's S3D without its classifier, the text tower transformers' DistilBertModel with
what stands at the first token, and the projection is written here from its description.
"""

from __future__ import annotations

import gzip
import tempfile
from functools import partial
from pathlib import Path

# First of all: transformers imports torchvision where it is there.
from tests.goldens.oracles.shim import torchvision  # isort: skip

import numpy as np
import torch
from torch import nn
from torchmultimodal.models.clip.model import CLIP
from torchmultimodal.transforms import video_transform
from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

from tests.goldens import seeded
from tests.helpers.s3d import lively_towers

VOCABULARY = "vidembed/encode/videoclip_mugen/bert_uncased_vocab.txt.gz"
LAYERS, SEED = 2, 3
# Frames, height, width, seed: resampled up and down, resized, and neither.
CLIPS = [(32, 240, 320, 1), (50, 227, 299, 2), (20, 321, 243, 3), (32, 224, 224, 4)]
TEXTS = [
    "raw text sample for testing tokenizer",
    "Mugen jumps onto the LADDER, and kills a gear!",
    "",
    "Café naïve ÅNGSTRÖM — “quoted” don't re-enter 3.14%",
    "走る dog\u0000\t\u200b zero [SEP] [MASK] ##ing ~",
    "supercalifragilisticexpialidocious " + "x" * 101 + " " + "y" * 100,
    "very long " * 30,
]


class Text(nn.Module):
    def __init__(self, layers: int, attention: str) -> None:
        super().__init__()
        config = DistilBertConfig(n_layers=layers, attn_implementation=attention)
        self.model = DistilBertModel(config)

    def forward(self, ids):
        mask = (ids != 0).to(torch.int64)
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0, :]


class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.video.s3d()
        self.model.classifier = nn.Identity()

    def forward(self, x):
        return self.model(x)


class Projection(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, 256, bias=False)
        self.linear2 = nn.Linear(256, 256, bias=False)
        self.drop = nn.Dropout(0.1)
        self.layer_norm = nn.LayerNorm(256)

    def forward(self, x):
        first = self.linear1(x)
        second = self.drop(self.linear2(nn.GELU()(first)))
        return self.layer_norm(first + second)


def network(layers: int, attention: str = "eager") -> CLIP:
    text = nn.Sequential(Text(layers, attention), Projection(768))
    return CLIP(text, nn.Sequential(Video(), Projection(1024))).eval()


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def tokens(texts: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_bytes(gzip.decompress(Path(VOCABULARY).read_bytes()))
        tokenizer = BertTokenizer.from_pretrained(folder, do_lower_case=True)
        return tokenizer(texts, padding=True, return_tensors="np")["input_ids"]


def make() -> dict[str, dict[str, np.ndarray]]:
    torch.set_num_threads(1)
    # Tensors were resized without antialiasing when the published numbers were made.
    video_transform.resize = partial(video_transform.resize, antialias=False)
    transform = video_transform.VideoTransform()
    ids = tokens(TEXTS)
    out: dict[str, np.ndarray] = {"ids": ids}
    for attention in ("eager", "sdpa"):
        model = network(LAYERS, attention)
        state = lively_towers(seeded.weights(shapes(model), SEED))
        model.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
        with torch.inference_mode():
            if attention == "eager":
                clips = [torch.from_numpy(seeded.clip(*clip))[None] for clip in CLIPS]
                found = [
                    nn.functional.normalize(model.encoder_b(transform(clip)), dim=1)
                    for clip in clips
                ]
                out["video"] = torch.cat(found).numpy()
                both = model(torch.from_numpy(ids[:1]), transform(clips[0]))
                out["together"] = torch.cat([both.embeddings_a, both.embeddings_b]).numpy()
            text = model.encoder_a(torch.from_numpy(ids))
            out[f"text_{attention}"] = nn.functional.normalize(text, dim=1).numpy()
    small = transform(torch.from_numpy(seeded.clip(8, 61, 47, 9))[None])
    out["transformed"] = small[0, :, ::4, ::37, ::41].numpy()
    out["names"] = np.array(list(shapes(network(6))))
    return {"videoclip_mugen": out}
