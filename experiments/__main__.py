"""Lists the experiments: question, time and command of each."""

import rich.box
import rich.table

from experiments import catalog, cli


def main() -> None:
    """Lists the experiments: question, time and command of each."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("experiment", no_wrap=True, style="bold")
    table.add_column("question, time on 2 CPU cores, command")
    for entry in catalog.entries():
        table.add_row(entry.name, f"{entry.question}\n{entry.time}\n{entry.command}\n")
    cli.console.print(table)
    cli.say("Options: add --help to a command; results: experiments/NAME/README.md")
    cli.say("Pages of all results: python -m experiments.site --out DIR")


if __name__ == "__main__":
    cli.run(main)
