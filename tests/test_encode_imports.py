"""Encoders work on a machine that has torch and transformers, and none of what the job needs."""

from __future__ import annotations

import subprocess
import sys

from vidembed.encode import registry

# Stands before all other finders: a library is not only absent, whoever asks for it is named.
BLOCKED = """
import sys

class Blocked:
    names = {"ray", "pymilvus", "milvus_lite", "decord", "av", "torchcodec"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is asked for by an encoder")

sys.meta_path.insert(0, Blocked())
"""
PACKAGES = sorted({row.package for row in registry.ENTRIES.values()})


def printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_blocked_is_really_not_there():
    code = "try:\n    import av\nexcept ImportError as error:\n    print(error)\n"
    assert printed(code) == "av is asked for by an encoder\n"


def test_the_shipped_encoder_is_described_loaded_and_encodes():
    code = """
import numpy as np
import vidembed.encode.registry as registry
spec = registry.describe("clip4clip-tiny")
encoder = registry.load(spec, "cpu", "float32")
print(encoder.encode_video(np.zeros((1, *spec.clip.shape), np.uint8)).shape)
print(encoder.encode_text(["a red circle"]).shape)
"""
    assert printed(code) == "(1, 128)\n(1, 128)\n"


def test_every_module_of_every_family_is_imported():
    code = f"""
import importlib, pkgutil
for package in {PACKAGES!r}:
    found = importlib.import_module(package)
    names = {{m.name for m in pkgutil.iter_modules(found.__path__)}}
    assert {{"describe", "encoder"}} <= names, (package, names)
    # What trains the tiny model and draws its clips is no part of an encoder.
    for name in sorted(n for n in names if not n.startswith(("train_", "tiny_"))):
        importlib.import_module(f"{{package}}.{{name}}")
    print(package)
"""
    assert printed(code).split() == PACKAGES
