"""The command line: finds the verb, parses its options and config, runs it, and turns a user's mistake into one line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sv_jax import __version__
from sv_jax.config import describe_fields, load_config
from sv_jax.errors import UserError, unknown
from sv_jax.verbs import VERBS, Verb

CONFIGS = Path(__file__).parent.parent / "configs"
DESCRIPTION = "SpaceVista in JAX: all-scale visual spatial reasoning, from data and training to evaluation and Hugging Face."


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sv-jax ARGV` and return the exit code: 0, or 2 when the user has to change something, which one line on stderr says."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        return _dispatch([arg for arg in argv if arg != "--debug"])
    except UserError as error:
        if debug:
            raise
        print("sv-jax: error:", " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sv-jax: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `sv-jax … | head` has read enough; nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        print(f"sv-jax {__version__}")
        return 0
    name = next((name for name in VERBS if argv[: len(name.split())] == name.split()), None)
    if name is None:
        raise unknown("verb", argv[0], VERBS)
    verb, rest = VERBS[name], argv[len(name.split()) :]
    args, extra = _parser(name, verb, "-h" in rest or "--help" in rest).parse_known_args(rest)
    if verb.config:
        preset = _preset(verb, args.preset) if verb.presets and args.preset else None
        args.config = load_config(verb.config(), args.config, extra, preset)
    elif extra and extra[0].startswith("--"):
        raise unknown("option", extra[0], _options(_parser(name, verb)))
    elif extra:
        raise UserError(f"unexpected argument {extra[0]!r} (see sv-jax {name} --help)")
    with _runtime(), _counted() if verb.compiles else contextlib.nullcontext():
        verb.run(args)
    return 0


def overview() -> str:
    """What `sv-jax --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items()]
    usage = "usage: sv-jax VERB [options]      sv-jax VERB --help      --debug: show the traceback of an error"
    return "\n".join([usage, "", DESCRIPTION, "", *lines])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(f"{message} (see {self.prog} --help)")


def _parser(name: str, verb: Verb, helping: bool = False) -> argparse.ArgumentParser:
    teach = verb.teach
    if verb.config and helping:
        teach += f"\n\nconfig fields, in --config or as --NAME VALUE:\n{describe_fields(verb.config())}"
    options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(prog=f"sv-jax {name}", description=f"{verb.summary}\n\n{teach}", **options)
    if verb.config:
        parser.add_argument("--config", metavar="FILE.yaml", help="fields that are left out keep their defaults")
    if verb.presets:
        names = ", ".join(path.stem for path in sorted((CONFIGS / verb.presets).glob("*.yaml")))
        parser.add_argument("--preset", metavar="NAME", help=f"start from one of {names} instead of the defaults")
    verb.arguments(parser)
    return parser


def _preset(verb: Verb, name: str) -> Path:
    known = {path.stem: path for path in (CONFIGS / verb.presets).glob("*.yaml")}
    if name not in known:
        raise unknown("preset", name, known)
    return known[name]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]


@contextlib.contextmanager
def _runtime() -> Iterator[None]:
    """Quiet libraries, log lines of ours, compiled programs kept between runs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from sv_jax.compiles import persistent_cache

    log = logging.getLogger("sv_jax")
    log.setLevel(logging.INFO)
    log.propagate = False  # absl, which TFDS and Grain bring, prints whatever reaches the root
    log.addHandler(handler := _Lines())
    persistent_cache()
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Say at the end what was compiled."""
    from sv_jax.compiles import counting

    began = time.perf_counter()
    with counting() as compiles:
        yield
    logging.getLogger("sv_jax").info("%s; %.0f s in all", compiles.report(), time.perf_counter() - began)


class _Lines(logging.Handler):
    """One line on the stderr of the moment: a progress bar may have put itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"sv-jax: {record.getMessage()}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
