"""Where weights are, what is in them, and how they are read.

Strictly, and never as open pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.errors import ClipError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SIDE_FILES = ("config.json", "tokenizer.json", "vocab.json", "merges.txt")
_HUB_PATTERNS = [*_SIDE_FILES, "model.safetensors", "pytorch_model.bin"]
_MAX_BYTES = 64 << 30
_MAX_HEADER = 100_000_000
# Wrappers around a state dict, as training scripts write them.
_WRAPPERS = ("model_state", "state_dict", "model")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine. file: the tensors; sides: names of files beside it that shape its
    use, of which not all need be there.
    """

    name: str
    file: Path
    sides: tuple[str, ...] = ()

    @property
    def is_safetensors(self) -> bool:
        return self.file.suffix == ".safetensors"

    @property
    def folder(self) -> Path:
        return self.file.parent

    def side_file(self, name: str) -> Path | None:
        path = self.folder / name
        return path if name in self.sides and path.is_file() else None

    def config(self) -> dict[str, Any] | None:
        """config.json of a Hugging Face folder, None where there is none."""
        path = self.side_file("config.json")
        if path is None:
            return None
        try:
            config: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise WeightsError(f"{path} is not valid JSON: {error}") from error
        return config

    def digest(self) -> str:
        """SHA-256 over the tensors' file and what shapes their use."""
        total = hashlib.sha256()
        sides = [path for name in self.sides if (path := self.side_file(name))]
        for path in [self.file, *sides]:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def find(name: str, sides: tuple[str, ...] = ()) -> Weights:
    """Weights by file, folder, address or Hugging Face hub id, brought here where they are remote.

    sides: what the encoder reads from beside a single file; a folder has Hugging Face's.
    Raises WeightsError with what to download and how to point at it.
    """
    if not sources.is_local(name):
        return _fetched(name, sides)
    path = Path(sources.local_path(name)).expanduser()
    if path.is_dir():
        return _in_folder(name, path)
    if path.is_file():
        return Weights(name, path.absolute(), sides)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _in_folder(name, _from_hub(name))
    raise WeightsError(
        f"no weights at {name}: neither a file, a folder, an address, nor a hub id (owner/name)"
    )


def _in_folder(name: str, folder: Path) -> Weights:
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (folder / file).is_file():
            return Weights(name, (folder / file).absolute(), _SIDE_FILES)
    raise WeightsError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")


def _from_hub(name: str) -> Path:
    # The library's own warnings and progress bars would drown the one sentence that helps.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights {name} are not on this machine and the Hugging Face hub cannot be "
            f"reached for them ({type(error).__name__}): on a machine that can, run "
            f"`hf download {name} --local-dir {name.rpartition('/')[2]}`, copy that folder here, "
            f"and name it with --weights FOLDER"
        ) from error


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
    return Weights(uri, target, sides)


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
    """Names and shapes of the tensors, without reading them."""
    if weights.is_safetensors:
        with open(weights.file, "rb") as file:
            try:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length) if length < _MAX_HEADER else b"")
                found = {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
            except (ValueError, AttributeError, KeyError, TypeError) as error:
                raise WeightsError(f"{weights.file} is not a safetensors file") from error
        return found
    return {name: tuple(tensor.shape) for name, tensor in tensors(weights).items()}


def tensors(weights: Weights) -> dict[str, Any]:
    """Names and torch tensors, on the CPU, wrappers peeled off. Raises WeightsError."""
    if weights.is_safetensors:
        from safetensors.torch import load_file

        found: dict[str, Any] = load_file(weights.file)
        return found
    return peel(_unpickled(weights.file), weights.file)


def _unpickled(file: Path) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as first:  # noqa: BLE001 - torch raises whatever the pickle made it
        # Files of old torch versions (no zip archive) cannot be mapped.
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise WeightsError(
                f"{file} cannot be opened safely: it is no plain dictionary of tensors "
                f"({str(first).splitlines()[0][:120]}). If you trust it, convert it once, in a "
                f"place without secrets: load it with torch (torch.jit.load for a TorchScript "
                f"archive), take its state_dict(), and save that with "
                f"safetensors.torch.save_file(…, 'model.safetensors')"
            ) from error


def peel(loaded: Any, file: Path) -> dict[str, Any]:
    """The state dict inside what a training script saved: out of its wrapper, and without the
    `module.` that data-parallel training puts before every name.
    """
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(hasattr(v, "shape") for v in loaded.values()):
        raise WeightsError(f"{file} holds no dictionary of tensors")
    found: dict[str, Any] = loaded
    if found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


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
