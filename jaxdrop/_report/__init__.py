"""A report of a predictor on a data set: one HTML page that opens offline."""
