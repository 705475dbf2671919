"""Options: one schema behind the command line, YAML and Python, and what it refuses."""

from __future__ import annotations

import json

import pytest

from vidembed.config import ActorRange, EmbedConfig, Limit, LoadConfig, SearchConfig
from vidembed.errors import ConfigError

LEAST = {"manifest": "m.csv", "out": "run"}


def refusal(**options) -> str:
    with pytest.raises(ConfigError) as caught:
        EmbedConfig.make(LEAST | options)
    return str(caught.value)


def test_text_from_the_command_line_and_values_from_python_mean_the_same():
    words = {
        "frames": "8",
        "segment-seconds": "4",
        "decode-actors": "2:6",
        "max-failures": "5%",
        "gpus_per_actor": "0.5",
    }
    values = {
        "frames": 8,
        "segment_seconds": 4.0,
        "decode_actors": ActorRange(2, 6),
        "max_failures": Limit(None, 5.0),
        "gpus_per_actor": 0.5,
    }
    assert EmbedConfig.make(LEAST | words) == EmbedConfig.make(LEAST | values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"framez": 8}, "unknown option --framez"),
        ({"frames": 0}, "--frames: input should be greater than or equal to 1, got 0"),
        ({"frames": "many"}, "--frames: input should be a valid integer"),
        ({"decoder": "opencv"}, "--decoder: input should be 'auto', 'decord', 'pyav' or"),
        ({"decode_actors": "0"}, "--decode-actors: expected 1 <= MIN <= MAX, got '0'"),
        ({"decode_actors": "3:2"}, "--decode-actors: expected 1 <= MIN <= MAX, got '3:2'"),
        ({"encode_actors": "a:b"}, "--encode-actors: expected MIN or MIN:MAX, got 'a:b'"),
        ({"max_failures": "120%"}, "--max-failures: expected a count or a percentage up to 100%"),
        ({"max_failures": "-1"}, "--max-failures: expected a count or a percentage up to 100%"),
        ({"max_failures": "some"}, "--max-failures: expected a count or a percentage up to 100%"),
        ({"segment_stride": 2}, "--segment-stride needs --segment-seconds"),
        ({"fps": 2, "sampling": "uniform"}, "--fps is for --sampling fps or clip4clip"),
        ({"fps": 0}, "--fps: input should be greater than 0"),
        ({"collection": "my videos"}, "--collection: string should match pattern"),
        ({"limit": 0}, "--limit: input should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag_and_the_value(options, said):
    told = refusal(**options)
    assert said in told
    assert told.count(", got") <= 1


def test_all_that_is_wrong_is_said_at_once():
    text = refusal(frames=0, framez=1, decoder="x")
    assert text.count(";") == 2
    assert "--frames" in text
    assert "--framez" in text
    assert "--decoder" in text


def test_what_is_missing_is_named_as_it_is_written():
    with pytest.raises(ConfigError, match="MANIFEST is required; --out is required"):
        EmbedConfig.make({})
    with pytest.raises(ConfigError, match="--milvus is required"):
        LoadConfig.make({"run": "run"})


def test_an_option_cannot_be_changed_afterwards():
    config = EmbedConfig.make(LEAST)
    with pytest.raises(ValueError, match="frozen"):
        config.frames = 3


def test_options_as_plain_values_are_json_and_are_read_back():
    config = EmbedConfig.make(LEAST | {"decode_actors": "2:6", "max_failures": "3"})
    plain = json.loads(json.dumps(config.plain()))
    assert plain["decode_actors"] == "2:6"
    assert plain["max_failures"] == "3"
    assert EmbedConfig.make(plain) == config


@pytest.mark.parametrize(
    ("limit", "failed", "total", "exceeded"),
    [
        ("0", 0, 10, False),
        ("0", 1, 10, True),
        ("3", 3, 10, False),
        ("3", 4, 10, True),
        ("10%", 1, 10, False),
        ("10%", 2, 10, True),
        ("0%", 1, 1000, True),
        ("100%", 10, 10, False),
        ("2.5%", 25, 1000, False),
        ("2.5%", 26, 1000, True),
        (" 7 ", 8, 10, True),
        (7, 8, 10, True),
    ],
)
def test_a_limit_of_failures_is_a_count_or_a_share(limit, failed, total, exceeded):
    assert Limit.parse(limit).exceeded(failed, total) == exceeded


def test_a_range_of_actors_is_written_as_it_is_read():
    assert str(ActorRange.parse("4")) == "4"
    assert str(ActorRange.parse("2:8")) == "2:8"
    assert ActorRange.parse(4) == ActorRange(4, 4)
    assert ActorRange.parse(None) is None


def test_a_search_asks_one_thing_in_one_place():
    with pytest.raises(ConfigError, match="give one of a text, --video FILE and --id ID"):
        SearchConfig.make({"run": "r"})
    assert SearchConfig.make({"text": "x", "run": "r", "json": True}).as_json
