"""Names under which result types are stored in programs that `jax.export` serializes."""

import json

import jax.export

from jaxdrop import mc, optim, training, uncertainty
from jaxdrop._types import PyTree

NAMED_TUPLES = (
    mc.Estimate,
    mc.Laplace,
    mc.LastLayer,
    mc.MomentsCheck,
    mc.SWAG,
    mc.State,
    optim.HaltState,
    training.Choice,
    training.TrainState,
    training.Tuned,
    uncertainty.BinnedScore,
    uncertainty.CQR,
    uncertainty.DDU,
    uncertainty.LAC,
    uncertainty.FNRSets,
    uncertainty.GroupQuantile,
    uncertainty.Isotonic,
    uncertainty.Mahalanobis,
    uncertainty.QuantileReliability,
    uncertainty.Recalibration,
    uncertainty.RelativeMahalanobis,
    uncertainty.Reliability,
    uncertainty.Residual,
    uncertainty.RiskCoverage,
    uncertainty.Score,
    uncertainty.Selection,
    uncertainty.SetCoverage,
    uncertainty.StddevScale,
    uncertainty.Temperature,
    uncertainty.Variance,
    uncertainty.VectorScaling,
    uncertainty.WeightedQuantile,
)


def register() -> None:
    """Registers each type once; without it JAX refuses to serialize a program that returns one."""
    for kind in NAMED_TUPLES:
        jax.export.register_namedtuple_serialization(kind, serialized_name=f"jaxdrop.{kind.__name__}")
    for kind in (mc.OutputMoments, uncertainty.AdaptiveSets, uncertainty.Tally):
        jax.export.register_pytree_node_serialization(
            kind,
            serialized_name=f"jaxdrop.{kind.__name__}",
            serialize_auxdata=lambda fields: json.dumps(fields).encode(),
            deserialize_auxdata=lambda text: _tuples(json.loads(text)),
        )


def _tuples(value: PyTree) -> PyTree:
    """Tuples, which JSON turns into lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
