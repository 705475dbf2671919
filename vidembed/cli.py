"""The command line: words to options, results to people, errors to exit codes.

0 done; 1 the run failed; 2 the words or the configuration are off, nothing was started; 3 done, but
more videos failed than --max-failures allows.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from vidembed import config
from vidembed._version import __version__
from vidembed.errors import ConfigError, UsageError, VidembedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import yaml


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its options, and `module:function` that takes them and returns an exit code."""

    options: type[config.Config]
    run: str


COMMANDS = {
    "embed": Command(config.EmbedConfig, "vidembed.commands.runs:embed"),
    "load": Command(config.LoadConfig, "vidembed.commands.runs:load"),
    "reindex": Command(config.ReindexConfig, "vidembed.commands.reindex:reindex"),
    "refresh": Command(config.RefreshConfig, "vidembed.commands.refresh:refresh"),
    "compact": Command(config.CompactConfig, "vidembed.commands.runs:compact"),
    "evaluate": Command(config.EvaluateConfig, "vidembed.commands.evaluate:evaluate"),
    "compare": Command(config.CompareConfig, "vidembed.commands.evaluate:compare"),
    "search": Command(config.SearchConfig, "vidembed.commands.search:search"),
    "similarity": Command(config.SimilarityConfig, "vidembed.commands.search:similarity"),
    "plan": Command(config.PlanConfig, "vidembed.commands.plan:plan"),
    "app": Command(config.AppConfig, "vidembed.app:app"),
    "encoders": Command(config.EncodersConfig, "vidembed.commands.encoders:encoders"),
    "quickstart": Command(config.QuickstartConfig, "vidembed.quickstart:quickstart"),
    "doctor": Command(config.DoctorConfig, "vidembed.doctor:doctor"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = make_parser()
    words = parser.parse_args(arguments)
    if words.command is None:
        parser.print_help()
        return 2
    command = COMMANDS[words.command]
    try:
        options = command.options.make(_options(words))
        return _function(command.run)(options)
    except UsageError as error:
        return _failed(error, 2, debug=words.debug)
    except VidembedError as error:
        return _failed(error, 1, debug=words.debug)
    except KeyboardInterrupt:
        print("vidembed: interrupted; what is committed stays, the same command goes on from there",
              file=sys.stderr)  # fmt: skip
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): no reason to complain.
        sys.stderr.close()
        return 1
    except Exception as error:
        if words.debug:
            raise
        print(
            f"vidembed: unexpected {type(error).__name__}: {error} (--debug shows where)",
            file=sys.stderr,
        )
        return 1


def run_job(command: str) -> None:
    """The whole of a job script: hand its arguments to a command, exit with its code."""
    sys.exit(main([command, *sys.argv[1:]]))


def make_parser() -> argparse.ArgumentParser:
    text = "Embed corpora of videos on Ray, search them, and measure the search."
    # No abbreviations: in a script, the next version's options would change what they mean.
    parser = argparse.ArgumentParser(prog="vidembed", description=text, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vidembed {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        text = (command.options.__doc__ or "").strip()
        sub = commands.add_parser(
            name, help=text.splitlines()[0], description=text, allow_abbrev=False
        )
        sub.set_defaults(command=name)
        _add_options(sub, command.options)
    return parser


def _add_options(parser: argparse.ArgumentParser, options: type[config.Config]) -> None:
    for name, field in options.model_fields.items():
        spelled = field.alias or name
        text = (field.description or "").replace("%", "%%")
        if field.json_schema_extra:
            optional: dict[str, Any] = {} if field.is_required() else {"nargs": "?"}
            if field.is_required():
                # From --config too: what is really missing is said once all is read.
                optional = {"nargs": "?"}
            parser.add_argument(
                spelled, metavar=name.upper(), help=text, default=argparse.SUPPRESS, **optional
            )
            continue
        if field.default not in (None, False, (), {}) and not field.is_required():
            text += f" [default: {field.default}]".replace("%", "%%")
        kind: dict[str, Any] = {"metavar": _metavar(field.annotation)}
        if field.annotation is bool:
            kind = {"action": "store_true"}
        elif get_origin(field.annotation) is tuple:
            # Given twice, a list grows; `,` separates within one.
            kind |= {"action": "extend", "type": lambda words: words.split(",")}
        elif any(get_origin(part) is tuple for part in get_args(field.annotation)):
            # The same; but only the option knows whether a `,` separates.
            kind |= {"action": "append"}
        flag = "--" + spelled.replace("_", "-")
        parser.add_argument(flag, dest=spelled, help=text, default=argparse.SUPPRESS, **kind)
    parser.add_argument(
        "--config", metavar="YAML", help="read options from a file; flags win over it"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _metavar(annotation: Any) -> str:
    """The choices of a closed set, else what kind of value it is."""
    parts = [annotation, *getattr(annotation, "__args__", ())]
    for part in parts:
        choices = getattr(part, "__args__", ())
        if choices and all(isinstance(c, str) for c in choices):
            return "|".join(choices)
    names = {int: "N", float: "X"}
    return next((names[p] for p in parts if p in names), "VALUE")


def _options(words: argparse.Namespace) -> dict[str, Any]:
    given = {k: v for k, v in vars(words).items() if k not in ("command", "config", "debug")}
    return {**(_from_file(words.config) if words.config else {}), **given}


def _from_file(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.load(file, Loader=_loader()) or {}
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {path}: not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--config {path}: expected `option: value` lines")
    return {str(k).replace("-", "_"): v for k, v in found.items()}


def _loader() -> type[yaml.SafeLoader]:
    """PyYAML's safe one, without numbers of base 60: `decode_actors: 1:8` is no 68."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        if ":" in node.value:
            return loader.construct_scalar(node)
        kind = yaml.constructor.SafeConstructor.yaml_constructors[node.tag]
        return kind(loader, node)

    for name in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{name}", number)
    return Loader


def _function(where: str) -> Callable[[config.Config], int]:
    import importlib

    module, _, name = where.partition(":")
    function: Callable[[config.Config], int] = getattr(importlib.import_module(module), name)
    return function


def _failed(error: VidembedError, code: int, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"vidembed: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
