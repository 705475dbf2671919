"""The facts of a CLIP4Clip or CLIP checkpoint, from its names and shapes.

Needs no torch where the weights are safetensors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidembed.encode import weights as files
from vidembed.encode.clip4clip import layout
from vidembed.encode.clip4clip.layout import Architecture
from vidembed.encode.spec import EncoderSpec, FrameCounts
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry

TINY = Path(__file__).parent / "tiny"
# Words of a caption that the reference reads; MSR-VTT, MSVD and LSMDC in its README.
_MAX_WORDS = 32


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of an encoder of this family. Raises WeightsError where the weights do not fit, or
    give scores of pairs instead of vectors.
    """
    found = files.find(weights or str(TINY))
    architecture, reference = architecture_of(found)
    if architecture.head == "tightTransf":
        raise WeightsError(
            f"{found.file} is a tightTransf checkpoint: it scores pairs of text and video and has "
            f"no vectors of its own, so it cannot be embedded or indexed. Embed with another "
            f"checkpoint, and use this one as `vidembed search --rerank {weights}`"
        )
    return _spec(row, weights, preset, found, architecture, reference=reference)


def describe_reranker(row: Entry, weights: str, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of a tightTransf checkpoint, without vectors: its dim is 0. Raises WeightsError."""
    found = files.find(weights)
    architecture, reference = architecture_of(found)
    if architecture.head != "tightTransf":
        raise WeightsError(
            f"{found.file} has the head {architecture.head} and gives vectors; only a tightTransf "
            f"checkpoint of CLIP4Clip (one with similarity_dense) scores pairs of text and video"
        )
    spec = _spec(row, weights, preset, found, architecture, reference=reference)
    return replace(spec, dim=0, metric="IP")


def _spec(
    row: Entry,
    weights: str | None,
    preset: ClipSpec | None,
    found: files.Weights,
    architecture: Architecture,
    *,
    reference: bool,
) -> EncoderSpec:
    usual = row.default if row.shipped else row.presets["paper" if reference else "towhee"].clip
    clip = preset or usual
    size, context = architecture.image_size, architecture.context_length
    return EncoderSpec(
        name=row.name,
        dim=architecture.dim,
        clip=replace(clip, resize=replace(clip.resize, short_side=size, crop=size)),
        counts=FrameCounts(1, architecture.most_frames),
        metric="COSINE",
        context_length=min(_MAX_WORDS, context) if reference else context,
        weights=weights or "",
        digest=found.digest(),
        architecture=architecture.label,
    )


def architecture_of(found: files.Weights) -> tuple[Architecture, bool]:
    """The architecture of a checkpoint, and whether its layout is the reference's.

    Every name and shape is checked: a file that fits in part only is refused.
    """
    shapes = layout.drop_ignored(files.shapes(found))
    if layout.is_reference(shapes):
        architecture = layout.detect(shapes)
        ours, extra = layout.renamed_shapes(layout.renames(architecture, shapes), shapes)
        files.check(ours | extra, layout.expected_shapes(architecture), str(found.file))
        return architecture, True
    config = found.config()
    if config is None:
        raise WeightsError(
            f"{found.file} has neither the names of a CLIP4Clip checkpoint nor a config.json "
            f"beside it: name the folder of a Hugging Face CLIP, or a pytorch_model.bin.N"
        )
    architecture = _from_config(config, found)
    files.check(shapes, layout.expected_shapes(architecture), str(found.file))
    return architecture, False


def _from_config(config: dict[str, Any], found: files.Weights) -> Architecture:
    if config.get("model_type", "clip") != "clip":
        raise files.other_type(found, config["model_type"], "a CLIP")
    text = dict(config.get("text_config") or config.get("text_config_dict") or {})
    vision = dict(config.get("vision_config") or config.get("vision_config_dict") or {})
    # Old configurations name id 2 as the end of a text; the vocabulary's last id is what is there.
    vocabulary = int(text.get("vocab_size", 49408))
    text |= {"eos_token_id": vocabulary - 1, "bos_token_id": vocabulary - 2, "pad_token_id": 0}
    clip = {
        "projection_dim": config.get("projection_dim", 512),
        "text_config": text,
        "vision_config": vision,
    }
    own = config.get("vidembed", {})
    return Architecture(
        clip=clip, head=own.get("head", "meanP"), head_layers=int(own.get("head_layers", 4))
    )
