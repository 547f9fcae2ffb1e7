"""The commands: `python -m jaxdrop --help` lists them."""

from jaxdrop._commands import app, tune

app.run(tune.tune)
