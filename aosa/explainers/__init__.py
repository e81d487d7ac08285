"""The explainers: one method, one file."""

from aosa.explainers.aosa import AOSA
from aosa.explainers.aosa_approx import AOSAApprox
from aosa.explainers.base import Explainer
from aosa.explainers.grad_cam import GradCAM
from aosa.explainers.grad_cam_pp import GradCAMPP
from aosa.explainers.guided_backprop import GuidedBackprop
from aosa.explainers.integrated_gradients import IntegratedGradients
from aosa.explainers.osa import OSA
from aosa.explainers.random import Random
from aosa.explainers.smooth_grad import SmoothGrad

__all__ = [
    "AOSA",
    "OSA",
    "AOSAApprox",
    "Explainer",
    "GradCAM",
    "GradCAMPP",
    "GuidedBackprop",
    "IntegratedGradients",
    "Random",
    "SmoothGrad",
]
