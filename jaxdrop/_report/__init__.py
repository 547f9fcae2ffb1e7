"""A report of a predictor on a data set: one HTML page that opens offline."""

try:
    import jinja2 as jinja2
    import matplotlib as matplotlib
except ImportError as error:
    raise ImportError('A report needs matplotlib and jinja2; run `pip install "jaxdrop[report]"`.') from error
