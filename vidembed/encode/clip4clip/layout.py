"""Checkpoints of CLIP4Clip and of CLIP: which layout a file has, and one set of names for all.

The names here are transformers' for the two towers (`vision_model.…`, `text_model.…`) and the
reference's for the heads. Two layouts are read: the reference's own `pytorch_model.bin.N`
(ArrowLuo/CLIP4Clip; OpenAI's names below `clip.`), and a Hugging Face folder of any CLIP.
Needs no torch: only names and shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

Head = Literal["meanP", "seqLSTM", "seqTransf", "tightTransf"]

# Frames that a patch of `linear_patch 3d` covers, and the channels of one.
DEPTH, _RGB = 3, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What must be known to build the network; everything else is in the weights.

    `clip` is a CLIP's config.json, as transformers writes it.
    """

    clip: dict[str, Any] = field(hash=False)
    head: Head = "meanP"
    head_layers: int = 4

    @property
    def dim(self) -> int:
        return int(self.clip.get("projection_dim", 512))

    @property
    def image_size(self) -> int:
        return int(self.clip["vision_config"].get("image_size", 224))

    @property
    def context_length(self) -> int:
        return int(self.clip["text_config"].get("max_position_embeddings", 77))

    @property
    def spans_frames(self) -> bool:
        """Whether a patch covers three frames (`linear_patch 3d`): they are stacked as channels."""
        return int(self.clip["vision_config"].get("num_channels", _RGB)) == DEPTH * _RGB

    @property
    def most_frames(self) -> int | None:
        """How many frames the head has positions for; None: any number."""
        if self.head == "meanP":
            return None
        # The first position of tightTransf is the text's.
        return self.context_length - (self.head == "tightTransf")

    @property
    def label(self) -> str:
        """For example `ViT-B/32 seqTransf`-like: width, patch and head, for people to read."""
        vision = self.clip["vision_config"]
        width, patch = vision.get("hidden_size", 768), vision.get("patch_size", 32)
        size = {768: "B", 1024: "L", 1280: "H"}.get(width, str(width))
        return f"ViT-{size}/{patch} {self.head}" + (" 3d" if self.spans_frames else "")


@dataclass(frozen=True, slots=True)
class Rename:
    """Where a tensor comes from: its name in the file, transposed, or rows of it (third of 3).

    stacked: a kernel [width, 3, frames, patch, patch] over frames becomes one over channels,
    [width, frames * 3, patch, patch], those of a frame side by side.
    """

    source: str
    transpose: bool = False
    third: int | None = None
    stacked: bool = False


def is_reference(shapes: Mapping[str, Shape]) -> bool:
    """Whether the names are the reference's (or OpenAI's) and not transformers'."""
    return any(name.removeprefix("clip.") == "visual.conv1.weight" for name in shapes)


def detect(shapes: Mapping[str, Shape]) -> Architecture:
    """The architecture of a reference-layout file, from its names and shapes.

    Raises WeightsError where it cannot be told.
    """
    prefix = _prefix(shapes)
    head = _head(shapes)

    def shape(name: str, dimensions: int) -> Shape:
        found = shapes.get(prefix + name)
        if found is None or len(found) != dimensions:
            what = "is missing" if found is None else f"has shape {tuple(found)}"
            raise WeightsError(f"no whole CLIP4Clip or CLIP checkpoint: {prefix}{name} {what}")
        return found

    width, _, patch, _ = shape("visual.conv1.weight", 4)
    tokens, _ = shape("visual.positional_embedding", 2)
    vocab, text_width = shape("token_embedding.weight", 2)
    context, _ = shape("positional_embedding", 2)
    _, dim = shape("text_projection", 2)
    vision = _tower(width, _depth(shapes, f"{prefix}visual.transformer.resblocks."))
    text = _tower(text_width, _depth(shapes, f"{prefix}transformer.resblocks."))
    vision |= {"patch_size": patch, "image_size": patch * round((tokens - 1) ** 0.5)}
    if prefix + _SPANNING in shapes:
        vision |= {"num_channels": DEPTH * _RGB}
    text |= {"vocab_size": vocab, "max_position_embeddings": context, "eos_token_id": vocab - 1}
    clip = {"projection_dim": dim, "vision_config": vision, "text_config": text}
    transformer = "cross.transformer" if head == "tightTransf" else "transformerClip"
    layers = _depth(shapes, f"{transformer}.resblocks.")
    return Architecture(clip=clip, head=head, head_layers=layers or 4)


def _head(shapes: Mapping[str, Shape]) -> Head:
    if "similarity_dense.weight" in shapes:
        return "tightTransf"
    if any(name.startswith("transformerClip.") for name in shapes):
        return "seqTransf"
    return "seqLSTM" if any(name.startswith("lstm_visual.") for name in shapes) else "meanP"


def _tower(width: int, layers: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": width * 4,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


def _prefix(shapes: Mapping[str, Shape]) -> str:
    return "clip." if "clip.visual.conv1.weight" in shapes else ""


def _depth(shapes: Mapping[str, Shape], prefix: str) -> int:
    return len({k[len(prefix) :].partition(".")[0] for k in shapes if k.startswith(prefix)})


# Scalars of OpenAI's archives, and index buffers of old transformers versions: no parameters.
_IGNORED = ("input_resolution", "context_length", "vocab_size")


def drop_ignored(names: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: v
        for k, v in names.items()
        if k.removeprefix("clip.") not in _IGNORED and not k.endswith(".position_ids")
    }


# The patches of linear_patch 3d; those of 2d stay in such a file, unused.
_SPANNING = "visual.conv2.weight"


def renames(architecture: Architecture, shapes: Mapping[str, Shape]) -> dict[str, Rename]:
    """Our name to where it is in a reference-layout file (MODELS: verified name for name)."""
    c = _prefix(shapes)
    table = {
        "logit_scale": Rename(f"{c}logit_scale"),
        "text_projection.weight": Rename(f"{c}text_projection", transpose=True),
        "visual_projection.weight": Rename(f"{c}visual.proj", transpose=True),
        "text_model.embeddings.token_embedding.weight": Rename(f"{c}token_embedding.weight"),
        "text_model.embeddings.position_embedding.weight": Rename(f"{c}positional_embedding"),
        "vision_model.embeddings.class_embedding": Rename(f"{c}visual.class_embedding"),
        "vision_model.embeddings.position_embedding.weight": Rename(
            f"{c}visual.positional_embedding"
        ),
        "vision_model.embeddings.patch_embedding.weight": Rename(f"{c}visual.conv1.weight"),
    }
    if architecture.spans_frames:
        table["vision_model.embeddings.patch_embedding.weight"] = Rename(
            c + _SPANNING, stacked=True
        )
    for ours, theirs in (
        ("text_model.final_layer_norm", f"{c}ln_final"),
        ("vision_model.pre_layrnorm", f"{c}visual.ln_pre"),
        ("vision_model.post_layernorm", f"{c}visual.ln_post"),
    ):
        table |= {f"{ours}.{p}": Rename(f"{theirs}.{p}") for p in ("weight", "bias")}
    for tower, theirs in (("text", f"{c}transformer"), ("vision", f"{c}visual.transformer")):
        for n in range(architecture.clip[f"{tower}_config"]["num_hidden_layers"]):
            table |= _block(f"{tower}_model.encoder.layers.{n}", f"{theirs}.resblocks.{n}")
    heads = {k for k in shapes if k.partition(".")[0] in HEAD_MODULES}
    return table | {k: Rename(k) for k in heads}


HEAD_MODULES = (
    "frame_position_embeddings",
    "transformerClip",
    "lstm_visual",
    "cross",
    "similarity_dense",
)


def _block(ours: str, theirs: str) -> dict[str, Rename]:
    table: dict[str, Rename] = {}
    for p in ("weight", "bias"):
        for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
            fused = f"{theirs}.attn.in_proj_{p}"
            table[f"{ours}.self_attn.{name}.{p}"] = Rename(fused, third=third)
        for mine, his in (
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            table[f"{ours}.{mine}.{p}"] = Rename(f"{theirs}.{his}.{p}")
    return table


def renamed_shapes(
    table: Mapping[str, Rename], shapes: Mapping[str, Shape]
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Shapes under our names of what the file has, and what the file has beyond that."""
    ours: dict[str, Shape] = {}
    for name, origin in table.items():
        if origin.source not in shapes:
            continue
        shape = tuple(shapes[origin.source])
        if origin.transpose:
            shape = shape[::-1]
        if origin.third is not None and shape[0] % 3 == 0:
            shape = (shape[0] // 3, *shape[1:])
        if origin.stacked and len(shape) == 5:
            shape = (shape[0], shape[1] * shape[2], *shape[3:])
        ours[name] = shape
    used = {origin.source for origin in table.values()}
    used |= {k.replace("conv2", "conv1") for k in used if k.endswith(_SPANNING)}
    return ours, {k: tuple(v) for k, v in shapes.items() if k not in used}


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Every parameter of the network and its shape."""
    vision, text = architecture.clip["vision_config"], architecture.clip["text_config"]
    d, v, t = architecture.dim, vision.get("hidden_size", 768), text.get("hidden_size", 512)
    patch, channels = vision.get("patch_size", 32), vision.get("num_channels", _RGB)
    tokens = (architecture.image_size // patch) ** 2 + 1
    shapes: dict[str, Shape] = {
        "logit_scale": (),
        "text_projection.weight": (d, t),
        "visual_projection.weight": (d, v),
        "text_model.embeddings.token_embedding.weight": (text.get("vocab_size", 49408), t),
        "text_model.embeddings.position_embedding.weight": (architecture.context_length, t),
        "vision_model.embeddings.class_embedding": (v,),
        "vision_model.embeddings.position_embedding.weight": (tokens, v),
        "vision_model.embeddings.patch_embedding.weight": (v, channels, patch, patch),
    }
    shapes |= _pair("text_model.final_layer_norm", (t,))
    shapes |= _pair("vision_model.pre_layrnorm", (v,))
    shapes |= _pair("vision_model.post_layernorm", (v,))
    for tower, width, config in (("vision", v, vision), ("text", t, text)):
        inner = config.get("intermediate_size", width * 4)
        for n in range(config.get("num_hidden_layers", 12)):
            block = f"{tower}_model.encoder.layers.{n}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= _pair(f"{block}.self_attn.{name}", (width, width))
            shapes |= _pair(f"{block}.layer_norm1", (width,))
            shapes |= _pair(f"{block}.layer_norm2", (width,))
            shapes |= _pair(f"{block}.mlp.fc1", (inner, width))
            shapes |= _pair(f"{block}.mlp.fc2", (width, inner))
    return shapes | _head_shapes(architecture)


def _head_shapes(architecture: Architecture) -> dict[str, Shape]:
    d = architecture.dim
    if architecture.head == "meanP":
        return {}
    if architecture.head == "tightTransf":
        shapes = {
            "cross.embeddings.position_embeddings.weight": (architecture.context_length, d),
            "similarity_dense.weight": (1, d),
            "similarity_dense.bias": (1,),
        }
        shapes |= _pair("cross.pooler.ln_pool", (d,)) | _pair("cross.pooler.dense", (d, d))
        return shapes | _transformer_shapes("cross.transformer", d, architecture.head_layers)
    shapes = {"frame_position_embeddings.weight": (architecture.context_length, d)}
    if architecture.head == "seqLSTM":
        for p in ("ih", "hh"):
            shapes |= {
                f"lstm_visual.weight_{p}_l0": (4 * d, d),
                f"lstm_visual.bias_{p}_l0": (4 * d,),
            }
        return shapes
    return shapes | _transformer_shapes("transformerClip", d, architecture.head_layers)


def _transformer_shapes(name: str, d: int, layers: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for n in range(layers):
        block = f"{name}.resblocks.{n}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * d, d),
            f"{block}.attn.in_proj_bias": (3 * d,),
        }
        shapes |= _pair(f"{block}.attn.out_proj", (d, d))
        shapes |= _pair(f"{block}.ln_1", (d,))
        shapes |= _pair(f"{block}.ln_2", (d,))
        shapes |= _pair(f"{block}.mlp.c_fc", (4 * d, d))
        shapes |= _pair(f"{block}.mlp.c_proj", (d, 4 * d))
    return shapes


def _pair(name: str, shape: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
