"""Pages of all results, guides and the API, from what is committed.

    python -m experiments.site --out DIR

About half a minute. `pip install -e ".[site]"` installs Sphinx, which makes the pages; they need no network.
"""

from pathlib import Path
from typing import Annotated

import typer

from experiments import cli


def main(
    out: Annotated[Path, typer.Option(help="Folder of the pages: new, empty or an older site.")] = Path(
        "results/site"
    ),
) -> None:
    """Builds pages of all results, the guides and the API, which open without a server."""
    try:
        from experiments.site import build
    except ModuleNotFoundError as error:
        raise cli.BadInputError(f'`{error.name}` must be installed: pip install -e ".[site]".') from None
    build.build(out)
    cli.say(f"Open {out / 'index.html'}")


if __name__ == "__main__":
    cli.run(main)
