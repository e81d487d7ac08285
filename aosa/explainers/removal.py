"""Explaining by removing: REVEX's framework, whose choices make a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.fields import Options, fixed, option, part
from aosa.models.base import VideoModel
from aosa.removal.fills import REGION_FILLS, ClipFill, Inpaint, RegionMean
from aosa.removal.flow import FLOWS
from aosa.removal.forward import masked_scores
from aosa.removal.regions import Regions, Segments, SoftGrid, Windows
from aosa.removal.segments import segment
from aosa.removal.selection import bernoulli, one_in, one_out, shapley_kernel
from aosa.removal.summary import linear_fit, locality, mean_kept, shapley_fit

TINY = 1e-6


@dataclass
class SegmentOptions(Options):
    """How segments are cut, see `aosa.removal.segments.segment`."""

    segmentation: str = option("slic", "what the regions are", choices=("slic", "grid"))
    segments: int = option(200, "how many super-voxels, about", low=1)
    compactness: float = option(20.0, "of super-voxels, nearness against colour", low=TINY)
    spacing: tuple[float, float, float] = option(
        (0.2, 1.0, 1.0), "size of a voxel for SLIC", low=TINY, expect="[time, height, width], numbers above 0"
    )
    flow: str | None = option(
        None, "carry the segments of the first frame of grid[0] pieces of time along this flow", choices=(None, *FLOWS)
    )


@dataclass
class SampleOptions(Options):
    """How many samples are drawn."""

    samples: int = option(1000, "N of bernoulli and shapley (at most 2^R − 2)", low=1)
    seed: int = option(0, "of the draws, with the clip's id and the sample's index", low=0)


@dataclass
class BernoulliOptions(SampleOptions):
    """Samples that keep each region or not, independently."""

    keep: float = option(0.5, "probability that a sample keeps a region", low=0, high=1)


@dataclass
class RidgeOptions(Options):
    """Of LIME's regression."""

    kernel_width: float = option(0.25, "of the samples' weights", low=TINY)
    alpha: float = option(1.0, "of the ridge", low=0)


@dataclass
class LassoOptions(Options):
    """Of Kernel SHAP's regression."""

    l1_reg: str | int | None = option(
        None,
        "which regions may differ from 0: None = all, aic, or a number, see `aosa.removal.summary.shapley_fit`",
        low=1,
        expect="null, aic, or a number of regions of at least 1",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.l1_reg, str) and self.l1_reg != "aic":
            raise ConfigError(f"explainer.l1_reg={self.l1_reg}: give null, aic, or a number of regions of at least 1")


@dataclass
class RemovalMethod(Explainer):
    """A method of REVEX's framework, see `Removal` for the choices. A member of the family offers some of them as
    options and fixes others; those that it does neither with have the values below."""

    segmentation: str = fixed("slic")
    segments: int = fixed(200)
    compactness: float = fixed(20.0)
    spacing: tuple[float, float, float] = fixed((0.2, 1.0, 1.0))
    flow: str | None = fixed(None)
    selection: str = fixed("bernoulli")
    samples: int = fixed(1000)
    keep: float = fixed(0.5)
    summary: str = fixed("linear")
    kernel_width: float = fixed(0.25)
    alpha: float = fixed(1.0)
    l1_reg: str | int | None = fixed(None)
    seed: int = fixed(0)

    grid: tuple[int, int, int] = option(
        (4, 7, 7),
        "cells, nodes, or the clip's length over the window's",
        low=1,
        expect="[time, height, width], whole numbers of at least 1",
    )
    removal: ClipFill | RegionMean | Inpaint = part("black", "what stands in for removed voxels", REGION_FILLS)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Coefficients, Shapley values and differences are; a mean score, or 1 − a score, is not."""
        return self.summary in ("linear", "shapley", "difference")

    def prepare(self, clip: Clip, spec: InputSpec) -> Regions:
        return self.regions(clip)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: Regions) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        kept, weights = self.select(prepared.count, clip.id)
        ends = self._ends()
        rows = np.concatenate([np.full((1, prepared.count), end) for end in ends] + [kept])
        replacement = self.removal.of_regions(x, model.spec, prepared)
        scores = masked_scores(model, x, prepared.masks(rows), replacement, target)
        return prepared.paint(self.summarise(kept, weights, scores[len(ends) :], scores[: len(ends)]))

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        samples = self.samples
        if self.selection != "bernoulli":
            regions = self.prepare(clip, model.spec).count
            samples = min(samples, 2**regions - 2) if self.selection == "shapley" else regions
        return Passes(len(self._ends()) + samples)

    def regions(self, clip: Clip) -> Regions:
        """The regions of a clip.

        Raises:
            ConfigError: a grid finer than the clip.
        """
        t, h, w = self.grid
        if self.segmentation == "soft_grid":
            return SoftGrid((t, h, w), clip.size)
        if self.segmentation == "windows":
            return Windows((t, h, w), clip.size)
        labels = segment(
            clip,
            self.segmentation,
            grid=(t, h, w),
            segments=self.segments,
            compactness=self.compactness,
            spacing=self.spacing,
            flow=self.flow,
        )
        return Segments(labels)

    def select(self, regions: int, clip_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Which regions each sample keeps, bool N×R, and the samples' weights, float64 N."""
        match self.selection:
            case "shapley":
                return shapley_kernel(regions, self.samples, self.seed, clip_id)
            case "bernoulli":
                kept = bernoulli(regions, self.samples, self.keep, self.seed, clip_id)
            case "one_out":
                kept = one_out(regions)
            case _:
                kept = one_in(regions)
        return kept, np.ones(len(kept))

    def summarise(self, kept: np.ndarray, weights: np.ndarray, scores: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """One value per region, float64 R, from the samples' scores, float64 N, and those of the ends."""
        match self.summary:
            case "mean":
                whole = np.ones((1, kept.shape[1]), dtype=bool)
                return mean_kept(np.concatenate([whole, kept]), np.concatenate([ends, scores]))
            case "linear":
                weights = weights * locality(kept, self.kernel_width)
                return linear_fit(kept, scores, weights, self.alpha)
            case "shapley":
                return shapley_fit(kept, scores, weights, ends[0], ends[1], self.l1_reg)
            case "difference":
                return scores - ends[0] if self.selection == "one_in" else ends[0] - scores
        return 1 - scores

    def _ends(self) -> tuple[bool, ...]:
        """The samples that the summary needs besides: all kept (True), nothing kept (False)."""
        if self.summary == "difference":
            return (self.selection == "one_out",)
        return {"mean": (True,), "shapley": (True, False)}.get(self.summary, ())


@dataclass
class Removal(SegmentOptions, BernoulliOptions, RidgeOptions, LassoOptions, RemovalMethod):
    """Cut the clip into regions, remove some of them in each sample, sum the scores up to one value per region.

    The framework of REVEX (Gaya-Morey et al., section 3 and Table 2), five choices wide; `LIME3D`, `KernelSHAP3D`,
    `RISE3D`, `LOCO`, `Univariate` and `SOS` are its named methods, and another is a config that sets them otherwise.
    A sample z keeps the regions r with z_r = 1; f(z) is the score of the class, a probability by most heads. The map is
    signed but for the summaries ``mean`` and ``value``. Costs N forward passes, one more for f(x) (mean, difference of
    one_out, shapley) and one for f(∅), nothing kept (difference of one_in, shapley).

    ``segmentation``, the R regions: ``grid``, cuboids; ``slic``, super-voxels; ``soft_grid``, nodes of a coarse grid,
    masks linear in between; ``windows``, cuboids at every half of their length, which overlap (only with one_out).
    With ``flow`` the segments of the first frame of each of ``grid[0]`` pieces of time are carried along (grid and
    slic), see `aosa.removal.segments.segment`.

    ``selection``, what a sample keeps: ``bernoulli``, each region with probability `keep`; ``shapley``, coalitions by
    the Shapley kernel; ``one_out``, all but one region; ``one_in``, one region. The last two have N = R.

    ``removal``, what stands in for removed voxels: ``region_mean``, the mean colour of each region; ``inpaint``,
    painted from what is left; the others as in `aosa.removal.fills`.

    ``summary``: ``mean`` score of the samples that keep r, x among them, over its sum; ``linear``, a ridge regression
    of f on z; ``shapley``, Kernel SHAP's regression (only with the selection shapley); ``difference``,
    f(x) − f(all but r) or f(only r) − f(∅) (only with one_out and one_in); ``value``, 1 − f(all but r) (only with
    one_out). See `aosa.removal.summary`.

    Raises:
        ConfigError: an option out of its range, choices that do not fit together, or a grid finer than the clip.
    """

    name: ClassVar[str] = "removal"
    title: ClassVar[str] = "Removal"

    segmentation: str = option("slic", "what the regions are", choices=("grid", "slic", "soft_grid", "windows"))
    selection: str = option("bernoulli", "what a sample keeps", choices=("bernoulli", "shapley", "one_out", "one_in"))
    summary: str = option(
        "linear", "the value of a region", choices=("mean", "linear", "shapley", "difference", "value")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fit(self.segmentation, self.selection, self.summary, self.flow)


def _check_fit(segmentation: str, selection: str, summary: str, flow: str | None) -> None:
    if flow is not None and segmentation not in ("grid", "slic"):
        raise ConfigError(f"explainer.flow={flow} needs explainer.segmentation=grid or slic, not {segmentation}")
    if segmentation == "windows" and selection != "one_out":
        raise ConfigError("explainer.segmentation=windows needs explainer.selection=one_out: windows overlap")
    if summary == "shapley" and selection != "shapley":
        raise ConfigError(f"explainer.summary=shapley needs explainer.selection=shapley, not {selection}")
    if summary == "mean" and selection == "shapley":
        raise ConfigError(
            "explainer.summary=mean needs samples of equal weight: another explainer.selection than shapley"
        )
    if summary == "difference" and selection not in ("one_out", "one_in"):
        raise ConfigError(f"explainer.summary=difference needs explainer.selection=one_out or one_in, not {selection}")
    if summary == "value" and selection != "one_out":
        raise ConfigError(f"explainer.summary=value needs explainer.selection=one_out, not {selection}")
