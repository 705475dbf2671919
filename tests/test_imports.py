"""What is loaded when: a laptop, a GPU box and a worker each have only some of the libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vidembed
from tests.helpers.checkpoints import reference_state, write_hugging_face

PACKAGE = Path(vidembed.__file__).parent
HEAVY = ("ray", "torch", "transformers", "pymilvus", "milvus_lite", "decord", "av", "pandas")


def run(code: str, *words: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(statement: str) -> set[str]:
    return set(run(f"import sys; {statement}; print(*sys.modules)").split()) & set(HEAVY)


# Makes a library as absent as if it were not installed.
WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""


def test_import_vidembed_loads_no_heavy_library():
    assert loaded("import vidembed") == set()


@pytest.mark.parametrize("name", ["cli", "config", "schema", "clips", "errors", "metrics"])
def test_the_command_line_and_plain_modules_load_none_either(name):
    assert loaded(f"import vidembed.{name}") == set()


@pytest.mark.parametrize("name", ["embed", "load", "evaluate", "search"])
def test_a_face_of_python_loads_nothing_before_it_is_called(name):
    assert loaded(f"import vidembed; vidembed.{name}") == set()


def test_the_table_of_encoders_loads_neither_torch_nor_weights():
    assert loaded("from vidembed.encode import registry; registry.entry('clip4clip')") == set()


def test_encoders_work_where_ray_milvus_and_decoders_are_not_installed(tmp_path):
    folder = write_hugging_face(tmp_path / "clip", reference_state())
    names = ("ray", "pymilvus", "milvus_lite", "decord", "av")
    code = WITHOUT.format(names=names) + (
        "import numpy as np, vidembed\n"
        "encoder = vidembed.load_encoder('clip4clip', sys.argv[1], device='cpu')\n"
        "print(encoder.encode_video(np.zeros((1, 2, 16, 16, 3), np.uint8)).shape)\n"
        "print(encoder.encode_text(['a dog']).shape)\n"
    )
    assert run(code, str(folder)) == "(1, 128)\n(1, 128)\n"


def test_an_encoder_is_described_without_torch_where_its_weights_are_safetensors(tmp_path):
    folder = write_hugging_face(tmp_path / "clip", reference_state())
    code = WITHOUT.format(names=("torch", "transformers")) + (
        "from vidembed.encode import registry\n"
        "print(registry.describe('clip4clip', sys.argv[1]).architecture)\n"
    )
    assert run(code, str(folder)) == "ViT-128/8 meanP\n"


def test_decoding_works_where_torch_ray_and_milvus_are_not_installed(tmp_path):
    from tests.helpers.videos import write_video

    path = write_video(tmp_path / "a.mp4", frames=4)
    code = WITHOUT.format(names=("torch", "transformers", "ray", "pymilvus")) + (
        "import vidembed\nprint(vidembed.read_frames(sys.argv[1], count=2)[0].shape)\n"
    )
    assert run(code, str(path)) == "(2, 120, 160, 3)\n"


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'vidembed' has no attribute 'embedd'"):
        _ = vidembed.embedd


def test_every_public_name_is_there():
    assert set(vidembed.__all__) <= set(dir(vidembed))
    for name in vidembed.__all__:
        assert getattr(vidembed, name) is not None


def test_no_module_is_longer_than_400_lines():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 400} == {}
