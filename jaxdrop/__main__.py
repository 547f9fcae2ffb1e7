"""The commands: `python -m jaxdrop --help` lists them."""

from jaxdrop._commands import app, report, tune

app.run(report.report, tune.tune)
