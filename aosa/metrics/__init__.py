"""The metrics: one metric, one file."""

from aosa.metrics.accuracy import Accuracy
from aosa.metrics.base import Metric
from aosa.metrics.deletion_insertion import DeletionInsertion
from aosa.metrics.spatial_pointing import SpatialPointing
from aosa.metrics.truth_score import TruthScore

__all__ = ["Accuracy", "DeletionInsertion", "Metric", "SpatialPointing", "TruthScore"]
