"""The commands: `python -m jaxdrop --help` lists them."""

import sys


def main() -> None:
    """Runs `python -m jaxdrop`; the program `jaxdrop`, whose name a shell can complete."""
    try:
        from jaxdrop._commands import app, report, tune
    except ImportError as error:  # a missing extra
        sys.exit(f"Error: {error}")
    app.run(report.report, tune.tune)


if __name__ == "__main__":
    main()
