"""Queries become vectors, by the encoder that made those of the run or the collection."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from vidembed.clips import ClipSpec
from vidembed.decode.limits import Limits
from vidembed.decode.worker import DecodeWorker
from vidembed.encode import registry
from vidembed.errors import ClipError, ConfigError, RunMismatchError
from vidembed.rerank import read_clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vidembed.encode.registry import Device
    from vidembed.encode.spec import Encoder, EncoderSpec
    from vidembed.store.run import Run

_DECODE_SECONDS = 300


def spec_of(run: Run, weights: str | None = None) -> EncoderSpec:
    """The encoder that a run was made with, found again and compared.

    Raises RunMismatchError where the weights are not the run's.
    """
    identity = run.identity
    name, own = str(identity["encoder"]), str(run.record.get("weights") or "")
    spec = _described(name, weights or own)
    if spec.digest != identity["weights"]:
        raise RunMismatchError(
            f"{run.uri} was embedded with other weights than {spec.weights or name} (digest "
            f"{str(identity['weights'])[:16]}, found {spec.digest[:16]}): name those with --weights"
        )
    return spec.prepared(ClipSpec.parse(identity["clip"]))


def spec_of_collection(
    collection: str, made: dict[str, str], weights: str | None = None
) -> EncoderSpec:
    """The encoder that a collection was made with, found again and compared. made: what the
    collection says of that.

    Raises RunMismatchError where what is found is another.
    """
    name = made["encoder"]
    spec = _described(name, weights or made["weights"])
    spec = spec.prepared(ClipSpec.parse(json.loads(made["clip"])))
    if spec.fingerprint != made["fingerprint"]:
        raise RunMismatchError(
            f"collection {collection!r} holds vectors of {name} with fingerprint "
            f"{made['fingerprint']}; {name} as found here has {spec.fingerprint}: a search would "
            f"compare what does not compare. Name its --weights"
        )
    return spec


def _described(name: str, weights: str) -> EncoderSpec:
    shipped = registry.entry(name).shipped
    return registry.describe(name, None if shipped else weights)


class QueryEncoder:
    """An encoder that is loaded for the first query, in float32; used by one thread at a time."""

    def __init__(self, spec: EncoderSpec, device: Device = "auto") -> None:
        self.spec = spec
        self._device = device
        self._lock = threading.Lock()
        self._loaded: Encoder | None = None

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [texts, dim]. Raises ConfigError where the encoder has no text tower."""
        if not self.spec.context_length:
            raise ConfigError(f"{self.spec.name} has no text tower: search with --video FILE")
        with self._lock:
            return self._encoder().encode_text(list(texts))

    def video(self, uri: str) -> NDArray[np.float32]:
        """The vector [1, dim] of a whole video, decoded as the job does: in a child process.

        Raises ConfigError where it cannot be decoded.
        """
        worker = DecodeWorker(Limits(seconds=_DECODE_SECONDS))
        try:
            frames, valid = read_clip(worker, self.spec.clip, (uri, None, None))
        except ClipError as error:
            raise ConfigError(f"--video {error}") from error
        finally:
            worker.close()
        masked = self.spec.clip.sampling.pad == "mask"
        with self._lock:
            return self._encoder().encode_video(frames[None], [valid] if masked else None)

    def _encoder(self) -> Encoder:
        if self._loaded is None:
            self._loaded = registry.load(self.spec, self._device, "float32")
        return self._loaded
