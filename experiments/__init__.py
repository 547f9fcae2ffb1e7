"""One folder for each claim: `python -m experiments.NAME --help`."""
