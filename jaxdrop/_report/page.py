"""A page as HTML that stands alone."""

from jaxdrop._report.blocks import Page


def render(page: Page) -> str:
    """The page as one HTML document without any other file."""
    raise NotImplementedError
