"""What an explainer does when nothing is set is what the papers did: in its config as in its class."""

from __future__ import annotations

import inspect

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from aosa.config import compose

# AOSA's journal III-A, III-B and IV-A (UCF101); what it leaves open (weighting, ties, letter box) as named beside.
AOSA = {
    "stride": 8,
    "box": 16,
    "neighbours": 3,
    "similarity": "cosine",  # eq. 1
    "temporal_stride": None,  # anchors on the first frame
    "uncovered": False,
    "flow": "farneback",
    "flow_weights": None,
    "fill": "constant",  # 0 in normalised space
    "weighting": "authors",  # their code, not eq. 2
    "displacement": "positions",
    "subpixel": False,  # "rounded to the pixel grid"
    "letter_box": False,  # of the authors' code alone
    "compat": None,
}
# Journal III-C (m = 4), III-D and eq. 8.
AOSA_APPROX = {**AOSA, "fill": "patches", "relu": True, "iqr": False, "expand": "authors"}
# WACV 2023, 3.4 and 3.5: 36×36 pixels around a box of 16.
WACV = {"relu": False, "fill": {"name": "patches", "margin": 10}, "iqr": True}
# STEP's authors' code, and Table V's time of AOSA's journal; σ 11 for 112 pixels, 23 for 224.
EP3D = {"areas": [0.1], "iterations": 2000, "sigma": None, "patience": None}
# REVEX 4.4 and Table 2.
SLIC = {
    "segmentation": "slic",
    "segments": 200,
    "compactness": 20.0,
    "spacing": [0.2, 1.0, 1.0],
    "flow": None,
    "removal": "black",
}
LIME = {**SLIC, "samples": 1000, "keep": 0.5, "kernel_width": 0.25, "alpha": 1.0}

STATED: dict[str, dict[str, object]] = {
    "aosa": AOSA,
    "aosa_approx": AOSA_APPROX,
    # Journal IV-A: half the frames, 2 % of the image, which null stands for.
    "osa": {"box": None, "stride": None, "fill": "constant", "weighting": "authors"},
    # Selvaraju et al. 2017, eq. 1 and 2.
    "grad_cam": {"layer": None, "pooling": "clip", "output": "logit", "relu": True},
    # Smilkov et al. 2017; the papers print no n.
    "smooth_grad": {"samples": 50, "noise": 0.15, "squared": False, "absolute": True, "output": "logit"},
    "integrated_gradients": {"output": "logit"},
    "ep3d": EP3D,
    "ep3d_evenly": EP3D,
    "ep3d_gaussian": {**EP3D, "delta": 1},  # the first of eq. 12's 1, 2, 3
    "step": {**EP3D, "z": 443, "temporal_stride": 1},  # the code's; the paper has 311 and 11
    "lime3d": LIME,
    "removal": {**LIME, "selection": "bernoulli", "summary": "linear"},
    "kernel_shap3d": {**SLIC, "samples": 1000, "l1_reg": None},
    "rise3d": {"grid": [4, 7, 7], "samples": 1000, "keep": 0.5, "removal": "black"},
    "loco": SLIC,
    "univariate": SLIC,
    "sos": {"grid": [4, 7, 7], "removal": "black"},  # windows of T/4 × H/7 × W/7
}
# Configs that differ from their class on purpose.
VARIANTS = {
    "aosa_single": ("aosa", {"neighbours": 0}),
    "aosa_approx_single": ("aosa_approx", {"neighbours": 0}),
    "aosa_approx_iqr": ("aosa_approx", WACV),
    "aosa_approx_iqr_single": ("aosa_approx", {**WACV, "neighbours": 0}),
}


@pytest.mark.parametrize("name", [*STATED, *VARIANTS])
def test_defaults_are_the_papers(name: str) -> None:
    parent, changes = VARIANTS.get(name, (name, {}))
    stated = STATED[parent]
    config = compose("evaluate", [f"explainer={name}"]).explainer
    given = OmegaConf.to_container(config, resolve=True)
    assert {key: given[key] for key in stated} == {**stated, **changes}
    parameters = inspect.signature(get_class(config._target_)).parameters
    defaults = {key: parameters[key].default for key in stated}
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in defaults.items()} == stated
