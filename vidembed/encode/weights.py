"""Where weights are, what is in them, and how they are read.

Strictly, and never as open pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidembed import sources
from vidembed.errors import ClipError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Part of every folder's digest; an encoder that reads more from beside its weights names it to
# `find`, so that what one encoder does not read does not change its fingerprints.
_SIDE_FILES = ("config.json", "tokenizer.json", "vocab.json", "merges.txt")
_HUB_SIDES = (
    *_SIDE_FILES,
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
)
# Whole and in shards, the better format first: only one of the two is downloaded.
_SAFETENSORS, _PICKLED = "model.safetensors", "pytorch_model.bin"
# The last choice: folders of open_clip's that have the others too are read as Hugging Face's.
_OPEN_CLIP = "open_clip_model.safetensors"
_INDEX = ".index.json"
_HUB_LAYOUTS = (
    (_SAFETENSORS, _SAFETENSORS + _INDEX, "model-*-of-*.safetensors"),
    (_PICKLED, _PICKLED + _INDEX, "pytorch_model-*-of-*.bin"),
    (_OPEN_CLIP,),
)
_MAX_BYTES = 64 << 30
_MAX_HEADER = 100_000_000
# Wrappers around a state dict, as training scripts write them, and what they put before its names.
_WRAPPERS = ("model_state", "state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.")
# The encoders that take the Hugging Face folders of a model_type.
_TAKERS = {
    "clip": "clip4clip",
    "siglip": "siglip2",
    "videoprism": "videoprism_lvt_b or videoprism_lvt_l",
    "vjepa2": "vjepa2",
    "videomae": "videomae",
}


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine. file: the tensors, or the index of their shards; sides: names of
    files beside it that shape its use, of which not all need be there.

    Files are named as they were found: those of the Hugging Face cache are links to files whose
    own names say nothing of their format.
    """

    name: str
    file: Path
    sides: tuple[str, ...] = ()
    shards: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors."""
        return self.shards or (self.file,)

    @property
    def is_safetensors(self) -> bool:
        return self.files[0].suffix == ".safetensors"

    @property
    def folder(self) -> Path:
        return self.file.parent

    def side_file(self, name: str) -> Path | None:
        path = self.folder / name
        return path if name in self.sides and path.is_file() else None

    def config(self, name: str = "config.json") -> dict[str, Any] | None:
        """A JSON file of a Hugging Face folder, None where there is none."""
        path = self.side_file(name)
        return None if path is None else _json(path)

    def digest(self) -> str:
        """SHA-256 over the tensors' files and what shapes their use."""
        total = hashlib.sha256()
        sides = [path for name in self.sides if (path := self.side_file(name))]
        for path in [*self.files, *sides]:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def find(name: str, sides: tuple[str, ...] = ()) -> Weights:
    """Weights by file, folder, address or Hugging Face hub id, brought here where they are remote.

    sides: what the encoder reads from beside them; a folder has `config.json` and the vocabulary's
    files too.
    Raises WeightsError with what to download and how to point at it.
    """
    if not sources.is_local(name):
        return _fetched(name, sides)
    path = Path(sources.local_path(name)).expanduser()
    if path.is_dir():
        return _in_folder(name, path, sides)
    if path.is_file():
        return _whole_or_sharded(name, path.absolute(), sides)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _in_folder(name, _from_hub(name), sides)
    raise WeightsError(
        f"no weights at {name}: neither a file, a folder, an address, nor a hub id (owner/name)"
    )


def _in_folder(name: str, folder: Path, sides: tuple[str, ...]) -> Weights:
    file = _tensors_in(folder)
    if file is None:
        raise WeightsError(f"{folder} holds neither {_SAFETENSORS} nor {_PICKLED}")
    return _whole_or_sharded(name, file.absolute(), tuple(dict.fromkeys((*_SIDE_FILES, *sides))))


def _tensors_in(folder: Path) -> Path | None:
    for name in (_SAFETENSORS, _SAFETENSORS + _INDEX, _PICKLED, _PICKLED + _INDEX, _OPEN_CLIP):
        if (folder / name).is_file():
            return folder / name
    return None


def _whole_or_sharded(name: str, file: Path, sides: tuple[str, ...]) -> Weights:
    if not file.name.endswith(_INDEX):
        return Weights(name, file, sides)
    shards = tuple(file.parent / shard for shard in _shard_names(file))
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise WeightsError(f"{file} names {', '.join(absent)}, which is not beside it")
    return Weights(name, file, sides, shards)


def _shard_names(index: Path) -> list[str]:
    """The files that an index names, in order. They must lie beside it."""
    named = _json(index).get("weight_map")
    found = sorted(set(named.values())) if isinstance(named, dict) else []
    if not found or any(Path(name).name != name for name in found):
        raise WeightsError(f"{index} is not an index of weights in several files beside it")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no JSON object")
    return found


def _from_hub(name: str) -> Path:
    # The library's own warnings and progress bars would drown the one sentence that helps.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    everything = [*_HUB_SIDES, *(pattern for layout in _HUB_LAYOUTS for pattern in layout)]
    try:
        there = Path(snapshot_download(name, allow_patterns=everything, local_files_only=True))
        if _tensors_in(there):
            return there
    except LocalEntryNotFoundError:
        pass
    try:
        for layout in _HUB_LAYOUTS:
            there = Path(snapshot_download(name, allow_patterns=[*_HUB_SIDES, *layout]))
            if _tensors_in(there):
                break
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights {name} are not on this machine and the Hugging Face hub cannot be "
            f"reached for them ({type(error).__name__}): on a machine that can, run "
            f"`hf download {name} --local-dir {name.rpartition('/')[2]}`, copy that folder here, "
            f"and name it with --weights FOLDER"
        ) from error
    return there


def _fetched(uri: str, sides: tuple[str, ...]) -> Weights:
    cache = Path(os.environ.get("VIDEMBED_CACHE", "~/.cache/vidembed")).expanduser() / "weights"
    folder = cache / hashlib.sha256(uri.encode()).hexdigest()[:16]
    target = folder / sources.display_name(uri)
    _fetch(uri, target)
    for side in sides:
        try:
            _fetch(f"{uri.rpartition('/')[0]}/{side}", folder / side)
        except WeightsError as error:
            if not isinstance(error.__cause__, ClipError) or error.__cause__.kind != "NotFound":
                raise
    if target.name.endswith(_INDEX):
        for shard in _shard_names(target):
            _fetch(f"{uri.rpartition('/')[0]}/{shard}", folder / shard)
    return _whole_or_sharded(uri, target, sides)


def _fetch(uri: str, target: Path) -> None:
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        sources.fetch(uri, str(part), _MAX_BYTES)
    except ClipError as error:
        part.unlink(missing_ok=True)
        raise WeightsError(f"weights cannot be fetched: {error.message}") from error
    os.replace(part, target)


def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, without reading them; prefixes peeled off."""
    if weights.is_safetensors:
        return _bare({k: v for file in weights.files for k, v in _header(file).items()})
    return {name: tuple(tensor.shape) for name, tensor in tensors(weights).items()}


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    with open(file, "rb") as opened:
        try:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length) if length < _MAX_HEADER else b"")
            found = {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise WeightsError(f"{file} is not a safetensors file") from error
    return found


def tensors(weights: Weights) -> dict[str, Any]:
    """Names and torch tensors, on the CPU, wrappers and prefixes peeled off."""
    found: dict[str, Any] = {}
    if weights.is_safetensors:
        from safetensors.torch import load_file

        for file in weights.files:
            found |= load_file(file)
        return _bare(found)
    for file in weights.files:
        found |= _unwrapped(_unpickled(file), file)
    return _bare(found)


def _unpickled(file: Path) -> Any:
    try:
        return _loaded(file, mmap=True)
    except Exception as first:  # noqa: BLE001 - torch raises whatever the pickle made it
        # Files of old torch versions (no zip archive) cannot be mapped.
        try:
            return _loaded(file, mmap=False)
        except Exception as error:
            raise WeightsError(
                f"{file} cannot be opened safely: it is no plain dictionary of tensors "
                f"({str(first).splitlines()[0][:120]}). If you trust it, convert it once, in a "
                f"place without secrets: load it with torch (torch.jit.load for a TorchScript "
                f"archive), take its state_dict(), and save that with "
                f"safetensors.torch.save_file(…, 'model.safetensors')"
            ) from error


def _loaded(file: Path, *, mmap: bool) -> Any:
    import torch

    with warnings.catch_warnings():
        # That a file is a TorchScript archive is in our own message, with what to do.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def peel(loaded: Any, file: Path) -> dict[str, Any]:
    """The state dict inside what a training script saved: out of its wrappers, and without what
    training puts before every name (`module.`: data-parallel; `model.`: Lightning).
    """
    return _bare(_unwrapped(loaded, file))


def _unwrapped(loaded: Any, file: Path) -> dict[str, Any]:
    while isinstance(loaded, dict):
        inner = next((w for w in _WRAPPERS if isinstance(loaded.get(w), dict)), None)
        if inner is None:
            break
        loaded = loaded[inner]
    if not isinstance(loaded, dict) or not all(hasattr(v, "shape") for v in loaded.values()):
        raise WeightsError(f"{file} holds no dictionary of tensors")
    found: dict[str, Any] = loaded
    return found


def _bare(found: dict[str, T]) -> dict[str, T]:
    """Without the prefixes of training that all names have."""
    while found:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def other_type(weights: Weights, found: str, wanted: str) -> WeightsError:
    """The error for a Hugging Face folder of another model_type: which encoder takes it.

    wanted: what the encoder is for, for example `a CLIP`.
    """
    taker = f": use --encoder {_TAKERS[found]}" if found in _TAKERS else ""
    return WeightsError(f"{weights.folder} holds a model of type {found!r}, not {wanted}{taker}")


def check(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Raise WeightsError that lists what is missing, unexpected, or of another shape."""
    missing = sorted(expected.keys() - found.keys(), key=lambda k: (len(k), k))
    extra = sorted(found.keys() - expected.keys(), key=lambda k: (len(k), k))
    common = expected.keys() & found.keys()
    wrong = sorted(k for k in common if tuple(found[k]) != tuple(expected[k]))
    if not (missing or extra or wrong):
        return
    parts = [
        f"{len(names)} {what}: " + ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        for what, names in (("missing", missing), ("unexpected", extra))
        if names
    ]
    parts += [f"{k} has shape {found[k]}, expected {expected[k]}" for k in wrong[:5]]
    raise WeightsError(f"{where} does not fit the encoder: " + "; ".join(parts))
