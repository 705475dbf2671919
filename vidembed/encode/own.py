"""Encoders that are not vidembed's: `package.module:Class`, where the class is a user's own.

The class satisfies `vidembed.encode.spec.Encoder`, is made as `Class(spec, device, dtype)` with
torch's device and dtype, and has a class method

    describe(weights: str | None, preset: str | None) -> EncoderSpec

which says what it is before anything is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.encode.entry import Entry, Preset
from vidembed.encode.spec import EncoderSpec
from vidembed.errors import ConfigError, UsageError, VidembedError, WeightsError

if TYPE_CHECKING:
    import torch

    from vidembed.encode.spec import Encoder

_MEMBERS = {
    "describe": "a class method describe(weights, preset) that returns an EncoderSpec",
    "encode_video": "encode_video(frames, valid=None)",
    "encode_text": "encode_text(texts)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSpec(EncoderSpec):
    """What a user's class described. folder: where its module was looked for besides Python's
    path; other processes look there too. It is no part of the identity.
    """

    folder: str = ""


def digest(*parts: type | str | os.PathLike[str]) -> str:
    """SHA-256 over files, and over the source files of classes, for `EncoderSpec.digest`.

    digest(path): an encoder that is its weights. digest(cls): one without weights, which another
    source makes another encoder. Raises WeightsError for a file that is not there.
    """
    total = hashlib.sha256()
    for part in parts:
        path = str(inspect.getsourcefile(part) if isinstance(part, type) else os.fspath(part))
        try:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error
    return total.hexdigest()


def is_own(name: str) -> bool:
    """Whether `name` is of this kind, and not of the table."""
    return ":" in name


def entry(name: str) -> Entry:
    """A row as the table has them, as far as it is known without weights."""
    made = _class(name)
    about = next(iter((inspect.getdoc(made) or "").splitlines()), "")
    try:
        spec = describe(name, None, None)
    except UsageError:
        spec = None
    return Entry(
        name=name,
        package=made.__module__,
        modalities=("video", "text") if spec is None or spec.context_length else ("video",),
        dim=str(spec.dim) if spec else "",
        metric=spec.metric if spec else "",
        presets={"its own": Preset("as the class describes it", spec.clip)} if spec else {},
        parameters="",
        gmacs="",
        licence="",
        source=about or name,
        obtain="its class says" if spec is None else "",
    )


def describe(name: str, weights: str | None, preset: str | None) -> OwnSpec:
    """What the class says of itself. Raises ConfigError, or what the class raises of
    `vidembed.errors`.
    """
    spec = _described(_class(name), name, weights, preset)
    known = {field.name: getattr(spec, field.name) for field in fields(EncoderSpec)}
    return OwnSpec(**known | {"name": name, "folder": _working_directory()})


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> Encoder:
    """The encoder of a spec, tried on two grey clips and two words.

    Raises ConfigError for what is not as the spec says, WeightsError where the class or its weights
    are not those that were described.
    """
    made: Any = _class(spec.name, getattr(spec, "folder", ""))
    here = _described(made, spec.name, spec.weights, None)
    if here.digest != spec.digest:
        raise WeightsError(
            f"encoder {spec.name}: what is on this machine is not what the run was started with "
            f"(digest {here.digest[:16]}, expected {spec.digest[:16]})"
        )
    encoder: Encoder = made(spec, device, dtype)
    if not hasattr(encoder, "spec"):
        raise ConfigError(f"encoder {spec.name} lacks spec, the EncoderSpec it was made with")
    shape, kind = spec.clip.tensor
    grey = np.full((2, *shape), 128, kind)
    _check(spec, "encode_video", encoder.encode_video(grey, [spec.clip.sampling.count] * 2))
    if spec.context_length:
        _check(spec, "encode_text", encoder.encode_text(["one", "two"]))
    return encoder


def _check(spec: EncoderSpec, verb: str, found: Any) -> None:
    """Raise ConfigError where `found`, for two inputs, is not float32 [2, dim]."""
    if getattr(found, "shape", None) == (2, spec.dim) and found.dtype == np.float32:
        return
    got = f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}".strip()
    raise ConfigError(
        f"encoder {spec.name}: {verb} of two gave {got}; its spec promises float32 {(2, spec.dim)}"
    )


def _described(made: Any, name: str, weights: str | None, preset: str | None) -> EncoderSpec:
    try:
        spec = made.describe(weights or None, preset)
    except VidembedError:
        raise
    except Exception as error:
        raise ConfigError(
            f"encoder {name}: describe failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(spec, EncoderSpec):
        raise ConfigError(
            f"encoder {name}: describe gave {type(spec).__name__}, expected an EncoderSpec"
        )
    if spec.dim < 1 or not spec.digest:
        raise ConfigError(
            f"encoder {name}: its spec needs a dim of at least 1 and a digest, got "
            f"dim={spec.dim} digest={spec.digest!r}"
        )
    return spec


def _class(name: str, folder: str = "") -> type:
    """The class of this name. folder: where to look for its module after all else."""
    module_name, _, class_name = name.rpartition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        raise ConfigError(f"encoder {name}: expected package.module:Class")
    if module_name == "__main__":
        raise ConfigError(f"encoder {name}: put {class_name} into a module that workers can import")
    module = _module(module_name, name, folder)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        there = [
            k
            for k, v in vars(module).items()
            if isinstance(v, type) and v.__module__ == module_name
        ]
        has = f"; it has: {', '.join(there)}" if there else ""
        raise ConfigError(f"encoder {name}: {module_name} has no class {class_name}{has}")
    lacking = [what for k, what in _MEMBERS.items() if not callable(getattr(found, k, None))]
    if lacking:
        raise ConfigError(f"encoder {name} lacks {' and '.join(lacking)}")
    return found


def _module(module_name: str, name: str, folder: str) -> Any:
    for place in (_working_directory(), folder):
        # Last: what is installed is not hidden by a file that happens to lie there.
        if place and place not in sys.path:
            sys.path.append(place)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(name, module_name, error) from error
        parent = sys.modules.get(module_name.partition(".")[0])
        where = f" ({module_name.partition('.')[0]} is {_place(parent)})" if parent else ""
        raise ConfigError(
            f"encoder {name}: there is no module {error.name} in {_working_directory()} or on "
            f"Python's path{where}"
        ) from error
    except Exception as error:
        raise _broken(name, module_name, error) from error


def _broken(name: str, module_name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"encoder {name}: {module_name} cannot be imported: {type(error).__name__}: {error}"
    )


def _place(module: Any) -> str:
    return str(next(iter(getattr(module, "__path__", [])), getattr(module, "__file__", "built in")))


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        # It was deleted meanwhile.
        return ""
