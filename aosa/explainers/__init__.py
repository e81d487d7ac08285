"""The explainers: one method, one file."""

from aosa.explainers.aosa import AOSA
from aosa.explainers.aosa_approx import AOSAApprox
from aosa.explainers.attention_rollout import AttentionRollout
from aosa.explainers.base import Explainer
from aosa.explainers.eb_r import EBR
from aosa.explainers.ep3d import EP3D
from aosa.explainers.ep3d_evenly import EP3DEvenly
from aosa.explainers.ep3d_gaussian import EP3DGaussian
from aosa.explainers.grad_cam import GradCAM
from aosa.explainers.grad_cam_pp import GradCAMPP
from aosa.explainers.guided_backprop import GuidedBackprop
from aosa.explainers.integrated_gradients import IntegratedGradients
from aosa.explainers.kernel_shap3d import KernelSHAP3D
from aosa.explainers.lime3d import LIME3D
from aosa.explainers.loco import LOCO
from aosa.explainers.osa import OSA
from aosa.explainers.random import Random
from aosa.explainers.removal import Removal
from aosa.explainers.rise3d import RISE3D
from aosa.explainers.saliency_tubes import SaliencyTubes
from aosa.explainers.smooth_grad import SmoothGrad
from aosa.explainers.sos import SOS
from aosa.explainers.step import STEP
from aosa.explainers.univariate import Univariate

__all__ = [
    "AOSA",
    "EBR",
    "EP3D",
    "LIME3D",
    "LOCO",
    "OSA",
    "RISE3D",
    "SOS",
    "STEP",
    "AOSAApprox",
    "AttentionRollout",
    "EP3DEvenly",
    "EP3DGaussian",
    "Explainer",
    "GradCAM",
    "GradCAMPP",
    "GuidedBackprop",
    "IntegratedGradients",
    "KernelSHAP3D",
    "Random",
    "Removal",
    "SaliencyTubes",
    "SmoothGrad",
    "Univariate",
]
