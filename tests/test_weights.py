"""Weights: found in files, folders and shards; read strictly, and never as code."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.http import FileServer
from vidembed.encode import weights as files
from vidembed.errors import WeightsError


def state(seed=0, *, names=("first.weight", "first.bias", "second.weight")):
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 3, generator=draw) for name in names}


def index(names_by_shard):
    return {
        "metadata": {"total_size": 1},
        "weight_map": {name: shard for shard, names in names_by_shard.items() for name in names},
    }


def write_shards(folder, tensors, *, pickled=False):
    """As transformers writes a model that is too big for one file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, end = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    parts, names = {}, list(tensors)
    for n, part in enumerate((names[:2], names[2:]), start=1):
        shard = f"{stem}-0000{n}-of-00002.{end}"
        parts[shard] = part
        held = {name: tensors[name] for name in part}
        if pickled:
            torch.save(held, folder / shard)
        else:
            save_file(held, folder / shard)
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index(parts)))
    return folder


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def refusal(name, sides=()):
    with pytest.raises(WeightsError) as caught:
        files.tensors(files.find(str(name), sides))
    return str(caught.value)


# Where weights are


@pytest.mark.parametrize("pickled", [False, True])
def test_a_folder_in_shards_is_read_as_one(pickled, tmp_path):
    tensors = state()
    found = files.find(str(write_shards(tmp_path, tensors, pickled=pickled)))
    assert found.is_safetensors != pickled
    assert len(found.files) == 2
    same(files.tensors(found), tensors)
    assert files.shapes(found) == dict.fromkeys(tensors, (2, 3))


def test_an_index_can_be_named_instead_of_its_folder(tmp_path):
    tensors = state()
    write_shards(tmp_path, tensors)
    same(files.tensors(files.find(str(tmp_path / "model.safetensors.index.json"))), tensors)


def test_shards_behind_an_address_are_brought_with_their_index(tmp_path, monkeypatch):
    tensors = state()
    write_shards(tmp_path / "there", tensors)
    (tmp_path / "there" / "config.json").write_text("{}")
    monkeypatch.setenv("VIDEMBED_CACHE", str(tmp_path / "cache"))
    with FileServer() as server:
        for file in (tmp_path / "there").iterdir():
            server.put(f"/big/{file.name}", file.read_bytes())
        address = f"{server.url}/big/model.safetensors.index.json"
        found = files.find(address, ("config.json", "tokenizer.json"))
        same(files.tensors(found), tensors)
        assert found.config() == {}
        asked = len(server.seen)
        assert files.find(address, ("config.json",)).digest() == found.digest()
        assert len(server.seen) == asked


def test_a_shard_that_is_not_there_is_named(tmp_path):
    write_shards(tmp_path, state())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    text = refusal(tmp_path)
    assert "names model-00002-of-00002.safetensors, which is not beside it" in text


@pytest.mark.parametrize(
    "content",
    ['{"weight_map": {"a": "../elsewhere.safetensors"}}', "{}", '{"weight_map": []}', "[]", "{"],
)
def test_an_index_that_is_none_or_points_elsewhere_is_refused(content, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(tmp_path)


def test_a_whole_file_goes_before_shards_and_safetensors_before_pickles(tmp_path):
    torch.save(state(1), tmp_path / "pytorch_model.bin")
    write_shards(tmp_path, state(2))
    same(files.tensors(files.find(str(tmp_path))), state(2))
    save_file(state(3), tmp_path / "model.safetensors")
    same(files.tensors(files.find(str(tmp_path))), state(3))


def test_the_cache_s_links_keep_the_names_that_say_what_they_are(tmp_path):
    """In the cache of the Hugging Face hub the files are links to blobs without a suffix."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    write_shards(tmp_path / "made", state())
    for number, file in enumerate(sorted((tmp_path / "made").iterdir())):
        file.rename(blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(blobs / f"{number:064x}")
    found = files.find(str(snapshot))
    assert found.is_safetensors
    assert found.folder == snapshot
    same(files.tensors(found), state())
    file = files.find(str(snapshot / "model-00001-of-00002.safetensors"))
    assert file.is_safetensors
    assert file.folder == snapshot


def test_a_hub_id_in_the_cache_is_found_without_the_network(tmp_path):
    """Only what is read is asked for: the first layout that has tensors, and what lies beside."""
    snapshot = tmp_path / "hub" / "models--someone--thing" / "snapshots" / "0123"
    write_shards(snapshot, state())
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        (snapshot / name).write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    code = (
        "from vidembed.encode import weights\n"
        "found = weights.find('someone/thing', ('preprocessor_config.json',))\n"
        "print(len(weights.shapes(found)), found.config('preprocessor_config.json'))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "3 {}\n"


def test_nothing_where_weights_should_be_is_refused(tmp_path):
    assert "no weights at" in refusal(tmp_path / "absent")
    assert "holds neither model.safetensors nor pytorch_model.bin" in refusal(tmp_path)


# What is in them


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model_state": s, "cfg": "text"},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"module": s, "optimizer": {}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"module.model.{k}": v for k, v in s.items()}},
        lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}},
    ],
)
def test_wrappers_and_prefixes_of_training_are_peeled(wrap, tmp_path):
    torch.save(wrap(state()), tmp_path / "checkpoint.pt")
    found = files.find(str(tmp_path / "checkpoint.pt"))
    same(files.tensors(found), state())
    assert files.shapes(found) == dict.fromkeys(state(), (2, 3))


def test_a_prefix_is_peeled_from_safetensors_and_shards_too(tmp_path):
    prefixed = {f"model.{k}": v for k, v in state().items()}
    save_file(prefixed, tmp_path / "model.safetensors")
    found = files.find(str(tmp_path))
    same(files.tensors(found), state())
    assert files.shapes(found) == dict.fromkeys(state(), (2, 3))
    for pickled in (False, True):
        sharded = files.find(str(write_shards(tmp_path / f"{pickled}", prefixed, pickled=pickled)))
        same(files.tensors(sharded), state())


def test_a_prefix_that_some_names_do_not_have_stays(tmp_path):
    mixed = {"model.first.weight": torch.zeros(1), "loss.logit_scale": torch.zeros(1)}
    torch.save({"state_dict": mixed}, tmp_path / "lightning.ckpt")
    assert files.tensors(files.find(str(tmp_path / "lightning.ckpt"))).keys() == mixed.keys()


def test_halves_stay_halves_here_and_are_counted_as_they_are(tmp_path):
    """Encoders upcast; what is read is what is there."""
    save_file({k: v.half() for k, v in state().items()}, tmp_path / "model.safetensors")
    found = files.tensors(files.find(str(tmp_path)))
    assert {v.dtype for v in found.values()} == {torch.float16}


# Safely


class Evil:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


@pytest.mark.parametrize("old", [False, True])
def test_an_open_pickle_is_refused_with_the_remedy_and_does_not_run(old, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "evil.bin"
    if old:
        path.write_bytes(pickle.dumps({"weight": Evil(marker)}, protocol=2))
    else:
        torch.save({"weight": Evil(marker)}, path)
    text = refusal(path)
    assert "cannot be opened safely" in text
    assert "convert it once, in a place without secrets" in text
    assert "safetensors.torch.save_file" in text
    assert not marker.exists()


def test_a_shard_that_is_an_open_pickle_is_refused_too(tmp_path):
    write_shards(tmp_path, state(), pickled=True)
    shard = "pytorch_model-00002-of-00002.bin"
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / shard)
    text = refusal(tmp_path)
    assert f"{shard} cannot be opened safely" in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"lr": 0.1}, [1, 2], {"state_dict": {"a": "text"}}, 3])
def test_a_file_without_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    assert "holds no dictionary of tensors" in refusal(tmp_path / "x.pt")


def test_noise_is_refused(tmp_path):
    for name, says in (("x.safetensors", "is not a safetensors file"), ("x.pt", "opened safely")):
        (tmp_path / name).write_bytes(os.urandom(1000))
        with pytest.raises(WeightsError, match=says):
            files.shapes(files.find(str(tmp_path / name)))


# Strictly


def test_what_is_missing_and_unexpected_is_listed_shortest_first():
    expected = {"a.very.long.name.weight": (1,), "b": (2,), "cc": (3,), "same": (4, 5)}
    found = {"x.y": (1,), "x": (1,), "same": (5, 4)}
    with pytest.raises(WeightsError) as caught:
        files.check(found, expected, "here")
    assert str(caught.value) == (
        "here does not fit the encoder: 3 missing: b, cc, a.very.long.name.weight; "
        "2 unexpected: x, x.y; same has shape (5, 4), expected (4, 5)"
    )
    files.check(expected, expected, "here")


def test_long_lists_are_cut():
    with pytest.raises(WeightsError, match=r"9 missing: 0, 1, 2, 3, 4, …$"):
        files.check({}, {str(n): (1,) for n in range(9)}, "here")


# The digest


def test_the_digest_changes_with_what_the_encoder_reads_and_only_with_that(tmp_path):
    save_file(state(), tmp_path / "model.safetensors")
    sides = ("preprocessor_config.json",)
    (tmp_path / "config.json").write_text("{}")
    bare = files.find(str(tmp_path)).digest()
    with_sides = files.find(str(tmp_path), sides).digest()
    assert bare == with_sides
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 2}')
    assert files.find(str(tmp_path)).digest() == bare
    changed = files.find(str(tmp_path), sides).digest()
    assert changed != bare
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 3}')
    assert files.find(str(tmp_path), sides).digest() not in (bare, changed)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert files.find(str(tmp_path)).digest() != bare
    (tmp_path / "README.md").write_text("no part of it")
    assert files.find(str(tmp_path)).digest() != bare


def test_the_digest_is_over_all_shards(tmp_path):
    one = files.find(str(write_shards(tmp_path / "a", state()))).digest()
    assert files.find(str(write_shards(tmp_path / "b", state()))).digest() == one
    for changed in ("first.weight", "second.weight"):
        other = state() | {changed: torch.zeros(2, 3)}
        assert files.find(str(write_shards(tmp_path / changed, other))).digest() != one


def test_a_file_and_its_folder_have_one_digest_where_the_encoder_reads_the_same(tmp_path):
    from vidembed.encode.hub.folder import SIDES

    save_file(state(), tmp_path / "model.safetensors")
    for name in SIDES:
        (tmp_path / name).write_text(json.dumps({"of": name}))
    folder = files.find(str(tmp_path), SIDES)
    file = files.find(str(tmp_path / "model.safetensors"), SIDES)
    assert file.digest() == folder.digest()


def test_a_folder_of_another_type_names_the_encoder_that_takes_it(tmp_path):
    save_file(state(), tmp_path / "model.safetensors")
    found = files.find(str(tmp_path))
    assert str(files.other_type(found, "siglip", "a CLIP")).endswith(
        "holds a model of type 'siglip', not a CLIP: use --encoder siglip2"
    )
    assert str(files.other_type(found, "bert", "a CLIP")).endswith("'bert', not a CLIP")
