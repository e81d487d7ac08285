"""The metrics: one metric, one file."""

from aosa.metrics.base import Metric
from aosa.metrics.deletion_insertion import DeletionInsertion
from aosa.metrics.minimal_mask import MinimalMask
from aosa.metrics.preservation_ratio import PreservationRatio
from aosa.metrics.sanity import Sanity
from aosa.metrics.spatial_pointing import SpatialPointing
from aosa.metrics.temporal_pointing import TemporalPointing
from aosa.metrics.truth_score import TruthScore

__all__ = [
    "DeletionInsertion",
    "Metric",
    "MinimalMask",
    "PreservationRatio",
    "Sanity",
    "SpatialPointing",
    "TemporalPointing",
    "TruthScore",
]
