"""The explainers: one method, one file."""

from aosa.explainers.aosa import AOSA
from aosa.explainers.aosa_approx import AOSAApprox
from aosa.explainers.base import Explainer
from aosa.explainers.grad_cam import GradCAM
from aosa.explainers.osa import OSA
from aosa.explainers.random import Random

__all__ = ["AOSA", "OSA", "AOSAApprox", "Explainer", "GradCAM", "Random"]
