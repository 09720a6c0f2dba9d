"""The command line: its commands in one app, and its exit codes."""

from __future__ import annotations

import sys

import typer

from mcugraph import cli_compile, cli_prune
from mcugraph.errors import LoadError, UnsupportedError
from mcugraph.options import IMPORT, OK, UNSUPPORTED, USAGE, WRONG

app = typer.Typer(
    help="Fit a neural network into a microcontroller, and prove that it fits.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_compile.app)
app.add_typer(cli_prune.app)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code, after one clear message where it is not 0."""
    try:
        app(arguments)
    except SystemExit as stop:
        # The command-line library's own code for a wrong call is 2; ours is 1.
        return USAGE if stop.code == 2 else int(stop.code or OK)
    except (LoadError, UnsupportedError) as error:
        return _fail(error, IMPORT if isinstance(error, LoadError) else UNSUPPORTED)
    except (ValueError, OSError) as error:
        return _fail(error, USAGE)
    except RuntimeError as error:
        return _fail(error, WRONG)
    return OK


def _fail(error: Exception, code: int) -> int:
    lines = str(error).splitlines()
    print("mcugraph: " + "\n          ".join(lines), file=sys.stderr)
    return code
