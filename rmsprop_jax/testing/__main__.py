"""`python -m rmsprop_jax.testing`: the laws, and which of them optax breaks."""

import argparse
import os
import sys

from ._survey import MEMBERS, survey, table

DEVICES = "--xla_force_host_platform_device_count=8"


def main(argv: list[str] | None = None) -> int:
    """Print the table of laws, or measure the optimizers of optax."""
    parser = argparse.ArgumentParser(
        prog="python -m rmsprop_jax.testing",
        description="Measure which laws the optimizers of optax break.",
    )
    parser.add_argument("--laws", action="store_true", help="list the laws instead")
    members = ", ".join(MEMBERS)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {members}; all if none is given"
    )
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in MEMBERS]:
        parser.error(f"not measured: {', '.join(unknown)}")
    if arguments.laws:
        print(table())
        return 0
    # JAX reads it when it starts its backend, which an import does not do.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}"
    for line in survey(arguments.names or MEMBERS):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
