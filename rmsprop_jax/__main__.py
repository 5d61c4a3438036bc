"""`python -m rmsprop_jax`: what can be run."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable

from . import __version__

COMMANDS = {
    "bench": ("rmsprop_jax.bench.__main__", "time a step beside that of optax.rmsprop"),
    "dialects": (
        "rmsprop_jax.dialects.__main__",
        "compare the dialects of RMSProp",
    ),
    "recipes": ("rmsprop_jax.recipes.__main__", "list the published settings"),
    "demo": ("rmsprop_jax.demo", "train on digits beside SGD, AdaGrad and Adam"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand the arguments to the module of the command; give its exit code."""
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    arguments = parser.parse_args(argv)
    try:
        return _load(parser, arguments.command)(arguments.rest)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _load(parser: argparse.ArgumentParser, command: str) -> Callable[[list[str]], int]:
    try:
        return importlib.import_module(COMMANDS[command][0]).main
    except ModuleNotFoundError as error:
        parser.exit(1, f"{parser.prog} {command}: error: {error}\n")


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<10}{help_}" for name, (_, help_) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax",
        usage="%(prog)s [--help] [--version] COMMAND ...",
        description=f"commands:\n{listing}",
        epilog="`%(prog)s COMMAND --help` lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
