"""Moments of the outputs of a traced program, without samples."""
