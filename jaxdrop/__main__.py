"""The commands: `python -m jaxdrop --help` lists them."""

from jaxdrop._commands import app, tune

app.add(tune.tune)
app.run()
