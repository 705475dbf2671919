"""What the options of a job say to its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.clips import Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.stage import DecodeSettings
from vidembed.encode.stage import EncodeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from vidembed.access import Access
    from vidembed.config import EmbedConfig
    from vidembed.encode.spec import EncoderSpec
    from vidembed.pipeline.pools import Pools


def decode_settings(
    config: EmbedConfig, specs: Mapping[str, EncoderSpec], metadata: pa.Schema, access: Access
) -> DecodeSettings:
    """specs: of the encoders that lack something, by label; metadata: of the manifest."""
    return DecodeSettings(
        specs={label: spec.clip for label, spec in specs.items()},
        metadata=metadata,
        segmentation=Segmentation(seconds=config.segment_seconds, stride=config.segment_stride),
        decoder=config.decoder,
        device="cuda" if config.device == "cuda" else "cpu",
        min_frames=config.min_frames,
        access=access,
        limits=Limits(
            seconds=config.decode_timeout,
            memory_bytes=int(config.decode_memory * 2**30),
            frames=config.max_video_frames,
            pixels=int(config.max_megapixels * 1e6),
            duration_s=config.max_hours * 3600,
            file_bytes=int(config.max_gigabytes * 1e9),
        ),
    )


def encode_settings(
    config: EmbedConfig, specs: Mapping[str, EncoderSpec], pools: Pools
) -> list[EncodeSettings]:
    """Of each encoder, in their order."""
    return [
        EncodeSettings(
            spec=spec,
            label=label,
            device="cuda" if pools.encode_gpus else "cpu",
            dtype=config.dtype,
            threads=pools.threads,
        )
        for label, spec in specs.items()
    ]
