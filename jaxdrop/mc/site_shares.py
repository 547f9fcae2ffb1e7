"""Whose uncertainty: the shares of the stochastic sites in a variance, as a table."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike

__all__ = ["SiteShares", "site_shares"]

_COLUMNS = ("site", "mean", "5 %", "95 %")
_LEVELS = (5, 95)


@dataclass(frozen=True)
class SiteShares:
    """Shares of the predictive variance by site; `print` shows a table, and so does a notebook.

    Attributes:
      sites: The names of the sites, in the order in which they were given.
      per_example: The share of each site in the variance of each example, summed over its outputs,
        `[B, sites]`; rows sum to 1. NaN for examples without variance.
      mean: The mean over the examples that have a variance, `[sites]`.
    """

    sites: tuple[str, ...]
    per_example: np.ndarray
    mean: np.ndarray

    def __getitem__(self, site: str) -> np.ndarray:
        """The shares of one site, `[B]`."""
        if site not in self.sites:
            raise KeyError(f"`site` must be one of {', '.join(self.sites)}, got {site!r}.")
        return self.per_example[:, self.sites.index(site)]

    def range(self) -> np.ndarray:
        """The 5 % and 95 % quantiles over the examples, `[2, sites]`."""
        return np.nanpercentile(self.per_example, _LEVELS, axis=0)

    def __str__(self) -> str:
        """The table in aligned columns."""
        rows = [_COLUMNS, *self._cells()]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(
            "  ".join([name.ljust(first), *map(str.rjust, numbers, others)]) for name, *numbers in rows
        )

    def _repr_html_(self) -> str:
        """The table in HTML, for notebooks."""
        head = "".join(f"<th>{cell}</th>" for cell in _COLUMNS)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._cells())
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self) -> list[tuple[str, ...]]:
        numbers = np.vstack([self.mean, self.range()]).T
        return [
            (site, *(f"{value:.3f}" for value in row)) for site, row in zip(self.sites, numbers, strict=True)
        ]


def site_shares(shares: Mapping[str, ArrayLike]) -> SiteShares:
    """Shares of the predictive variance by stochastic site, per example and in the mean.

    For one output, select it first: `{site: share[:, :1] for site, share in shares.items()}`.

    Args:
      shares: The variance that each site brings to each output, `{site: [B, ...]}`, and "interactions" for
        what belongs to no single site. Their sum is the variance.

    Returns:
      A `SiteShares`, of NumPy arrays. The variances of an example's outputs are summed before they are
      divided by their total, and the mean is that of the examples' shares.

    Raises:
      TypeError: If `shares` is not a mapping of names to floating-point arrays, or its arrays are traced.
      ValueError: If there are none, their shapes differ or are not `[B, ...]`, values are not finite, or no
        example has a variance.

    References:
      Sobol', "Sensitivity estimates for nonlinear mathematical models", 1993 (the indices of first order).

    Examples:
      >>> import jax.numpy as jnp
      >>> print(site_shares({"conv": jnp.array([[1.0], [2.0]]), "dense": jnp.array([[3.0], [2.0]])}))
      site    mean    5 %   95 %
      conv   0.375  0.263  0.487
      dense  0.625  0.512  0.738
    """
    if not isinstance(shares, Mapping) or not all(isinstance(name, str) for name in shares):
        raise TypeError(f"`shares` must map names of sites to arrays, got {type(shares).__name__}.")
    if not shares:
        raise ValueError("`shares` must have a site, got none.")
    arrays = []
    for name, share in shares.items():
        share = _checks.check_floating(share, f"shares[{name!r}]")
        if not _predictions.is_visible(share):
            raise TypeError(f"`shares[{name!r}]` must be concrete, got a tracer.")
        _predictions.check_finite(share, f"shares[{name!r}]")
        if not share.ndim or share.shape != np.shape(next(iter(shares.values()))):
            raise ValueError(
                f"`shares` must hold arrays of one shape [B, ...], got {share.shape} of {name!r}."
            )
        arrays.append(np.asarray(share, np.float64).reshape(len(share), -1).sum(1))
    parts = np.stack(arrays, 1)
    total = parts.sum(1, keepdims=True)
    if not (total > 0).any():
        raise ValueError("`shares` must have an example with a variance above 0, got none.")
    per_example = np.where(total > 0, parts / np.where(total > 0, total, 1), np.nan)
    return SiteShares(tuple(shares), per_example, np.nanmean(per_example, 0))
