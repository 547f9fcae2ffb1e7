"""The commands of `python -m jaxdrop`, one per file; they need the extra `cli`."""
