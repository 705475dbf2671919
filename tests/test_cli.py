"""The command line: words to options, errors to one line and an exit code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from vidembed import __version__, cli
from vidembed.errors import RunError


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns its exit code, output and errors."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(words))
        except SystemExit as ending:
            code = int(ending.code or 0)
        out, errors = capsys.readouterr()
        return code, out, errors

    return call


@pytest.fixture
def options(monkeypatch):
    """What `embed` would be started with; nothing is."""
    seen = []

    def note(config):
        seen.append(config)
        return 0

    monkeypatch.setattr(cli, "_function", lambda where: note)
    return seen


def refused(result: tuple[int, str, str]) -> str:
    code, out, errors = result
    assert code == 2
    assert out == ""
    assert "Traceback" not in errors
    return errors


def test_help_lists_every_command_and_costs_nothing():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vidembed", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in cli.COMMANDS:
        assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE)
    for heavy in ("torch", "ray", "pymilvus", "decord"):
        assert f"| {heavy}\n" not in done.stderr


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"vidembed {__version__}\n", "")


def test_no_command_prints_the_help_and_is_an_error(run):
    code, out, _ = run()
    assert code == 2
    assert "COMMAND" in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_each_of_its_options(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    for field, info in cli.COMMANDS[name].options.model_fields.items():
        shown = info.alias or field
        if info.json_schema_extra:
            assert shown.upper() in out
        else:
            assert "--" + shown.replace("_", "-") in out
        assert info.description


def test_flags_become_options(run, options):
    words = "embed m.csv --out run --frames 8 --decode-actors 1:3 --overwrite --max-failures 5%"
    assert run(*words.split())[0] == 0
    (config,) = options
    assert (config.manifest, config.out, config.frames) == ("m.csv", "run", 8)
    assert str(config.decode_actors) == "1:3"
    assert config.overwrite
    assert str(config.max_failures) == "5%"
    assert config.batch_size == 16


def test_a_yaml_file_gives_options_and_flags_win_over_it(tmp_path, run, options):
    file = tmp_path / "run.yaml"
    file.write_text(
        "manifest: m.parquet\nout: run\nframes: 8\nbatch-size: 4\nmax_failures: 1%\n"
        "overwrite: true\n"
    )
    assert run("embed", "--config", str(file), "--frames", "16")[0] == 0
    (config,) = options
    assert (config.manifest, config.frames, config.batch_size) == ("m.parquet", 16, 4)
    assert config.overwrite
    assert str(config.max_failures) == "1%"


def test_an_empty_yaml_file_gives_nothing(tmp_path, run, options):
    (tmp_path / "run.yaml").touch()
    words = ("embed", "m.csv", "--out", "run", "--config", str(tmp_path / "run.yaml"))
    assert run(*words)[0] == 0
    assert options[0].manifest == "m.csv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("framez: 8\n", "unknown option --framez"),
        ("frames: many\n", "--frames: input should be a valid integer"),
        ("- a\n- b\n", "expected `option: value` lines"),
        ("frames: [8\n", "not valid YAML"),
        ("milvus_token: secret\n", "unknown option --milvus-token"),
    ],
)
def test_a_yaml_file_that_is_wrong_is_refused_in_a_line(text, said, tmp_path, run, options):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    errors = refused(run("embed", "m.csv", "--out", "run", "--config", str(file)))
    assert said in errors
    assert options == []


def test_a_yaml_file_that_is_not_there_is_refused(tmp_path, run):
    errors = refused(run("embed", "m.csv", "--out", "run", "--config", str(tmp_path / "no.yaml")))
    assert errors == f"vidembed: --config {tmp_path}/no.yaml: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("embed", "MANIFEST is required; --out is required"),
        ("embed m.csv", "--out is required"),
        ("embed m.csv --out run --framez 3", "--framez"),
        ("embed m.csv --out run --frame 3", "--frame"),
        ("embed m.csv --out run --frames x", "--frames: input should be a valid integer"),
        ("embed m.csv extra --out run", "extra"),
        ("embed {tmp}/absent.csv --out {tmp}/run --encoder clip4clip-tiny", "no such file"),
        ("embed {tmp} --out {tmp}/run --encoder resnet", "no encoder 'resnet'; there are: "),
        ("evaluate {tmp} --queries q.csv", "is no run: it has no run.json"),
        ("load {tmp} --milvus {tmp}/x.db", "is no run: it has no run.json"),
        ("search x --run {tmp}", "is no run: it has no run.json"),
        ("search", "give one of a text, --video FILE and --id ID"),
        ("encoders resnet", "no encoder 'resnet'; there are: "),
        ("nonsense", "nonsense"),
    ],
)
def test_words_that_are_off_are_refused_before_anything_is_started(words, said, tmp_path, run):
    errors = refused(run(*words.format(tmp=tmp_path).split()))
    assert said in errors
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ours_is_one_line(tmp_path, run):
    errors = refused(run("evaluate", str(tmp_path), "--queries", "q.csv"))
    assert errors == f"vidembed: {tmp_path} is no run: it has no run.json\n"


def test_debug_shows_where_an_error_came_from(tmp_path, run):
    code, _, errors = run("evaluate", str(tmp_path), "--queries", "q.csv", "--debug")
    assert code == 2
    assert "Traceback" in errors
    assert errors.endswith(f"vidembed: {tmp_path} is no run: it has no run.json\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("the job fell over"), "vidembed: the job fell over\n"),
        (ZeroDivisionError("by 0"), "vidembed: unexpected ZeroDivisionError: by 0"),
        (KeyboardInterrupt(), "vidembed: interrupted; what is committed stays"),
    ],
)
def test_a_run_that_fails_is_exit_code_1_in_a_line(error, said, run, monkeypatch):
    def fail(config):
        raise error

    monkeypatch.setattr(cli, "_function", lambda where: fail)
    code, _, errors = run("embed", "m.csv", "--out", "run")
    assert code == 1
    assert errors.startswith(said)
    assert errors.count("\n") == 1


def test_output_to_a_reader_that_has_gone_is_no_complaint():
    reader = f"{sys.executable} -m vidembed encoders | head -c 1"
    done = subprocess.run(reader, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


# Commands that need no job


def test_encoders_is_a_table_of_all(run):
    code, out, errors = run("encoders")
    assert (code, errors) == (0, "")
    assert "clip4clip-tiny" in out
    assert "shipped" in out


def test_one_encoder_says_how_to_get_its_weights_and_use_it(run):
    code, out, _ = run("encoders", "clip4clip")
    assert code == 0
    for words in ("512", "licence", "hf download", "vidembed embed MANIFEST --out RUN"):
        assert words in out


def test_doctor_says_what_is_there_and_what_is_not(run, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, out, errors = run("doctor", "--encoder", "clip4clip", "--weights", str(tmp_path))
    assert errors == ""
    for what in ("machine", "packages", "decoders", "ray", "milvus", "s3", "weights"):
        assert f"  {what} " in out
    assert "decord and PyAV decode" in out
    assert "Milvus Lite works" in out
    assert "holds neither model.safetensors nor pytorch_model.bin" in out
    assert code == (1 if "BROKEN" in out else 0)


def test_doctor_names_a_milvus_that_does_not_answer(run):
    code, out, _ = run("doctor", "--milvus", "http://127.0.0.1:9")
    assert code == 1
    assert "BROKEN  milvus" in out
    assert "does not answer" in out


def test_a_range_in_a_yaml_file_is_a_range_and_no_number_of_base_60(tmp_path, run, options):
    file = tmp_path / "run.yaml"
    file.write_text("manifest: m.csv\nout: run\ndecode_actors: 1:8\nbatch_size: 0x10\nfps: 2.5\n")
    run("embed", "--config", str(file))
    given = options[-1]
    assert (str(given.decode_actors), given.batch_size, given.fps) == ("1:8", 16, 2.5)
