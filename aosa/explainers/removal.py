"""Explaining by removing: REVEX's framework, whose choices make a method."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer
from aosa.models.base import VideoModel
from aosa.options import check_choice, check_range, check_whole
from aosa.removal.fills import inpainting, make_fill
from aosa.removal.flow import FLOWS
from aosa.removal.forward import masked_scores
from aosa.removal.regions import Fill, Regions, Segments, SoftGrid, Windows
from aosa.removal.segments import segment
from aosa.removal.selection import bernoulli, one_in, one_out, shapley_kernel
from aosa.removal.summary import linear_fit, locality, mean_kept, shapley_fit

_SEGMENTATIONS = ("grid", "slic", "soft_grid", "windows")
_SELECTIONS = ("bernoulli", "shapley", "one_out", "one_in")
_REMOVALS = ("black", "grey", "region_mean", "blur", "inpaint", "constant", "clip_mean")
_SUMMARIES = ("mean", "linear", "shapley", "difference", "value")


class Removal(Explainer):
    """Cut the clip into regions, remove some of them in each sample, sum the scores up to one value per region.

    The framework of REVEX (Gaya-Morey et al., section 3 and Table 2), five choices wide; `LIME3D`, `KernelSHAP3D`,
    `RISE3D`, `LOCO`, `Univariate` and `SOS` are its named methods, and another is a config that sets them otherwise.
    A sample z keeps the regions r with z_r = 1; f(z) is the score of the class, a probability by most heads. The map is
    signed. Costs N forward passes, one more for f(x) (mean, difference of one_out, shapley) and one for f(∅), nothing
    kept (difference of one_in, shapley).

    Args:
        segmentation: the R regions. ``grid``, cuboids; ``slic``, super-voxels; ``soft_grid``, nodes of a coarse grid,
            masks linear in between; ``windows``, cuboids at every half of their length, which overlap (only with
            one_out).
        segments: how many super-voxels, about.
        compactness: of super-voxels, nearness against colour.
        spacing: of voxels for SLIC, along time, height and width.
        grid: cells, nodes, or the clip's length over the window's, along time, height and width.
        flow: None, or ``farneback`` | ``dis``: carry the segments of the first frame of each of ``grid[0]`` pieces of
            time along this flow (grid and slic), see `aosa.removal.segments.segment`.
        selection: what a sample keeps. ``bernoulli``, each region with probability `keep`; ``shapley``, coalitions by
            the Shapley kernel; ``one_out``, all but one region; ``one_in``, one region. The last two have N = R.
        samples: N of bernoulli and shapley (at most 2^R − 2).
        keep: p of bernoulli.
        removal: what stands in for removed voxels. ``black``; ``grey``; ``region_mean``, the mean colour of each
            region; ``blur``, ``constant``, ``clip_mean`` as in `aosa.removal.fills.make_fill`; ``inpaint``, painted
            from what is left (`aosa.removal.fills.inpainting`).
        summary: ``mean`` score of the samples that keep r, x among them, over its sum; ``linear``, a ridge
            regression of f on z; ``shapley``, Kernel SHAP's regression (only with the selection shapley);
            ``difference``, f(x) − f(all but r) or f(only r) − f(∅) (only with one_out and one_in); ``value``,
            1 − f(all but r) (only with one_out). See `aosa.removal.summary`.
        kernel_width: of LIME's sample weights, for linear.
        alpha: of the ridge, for linear.
        l1_reg: of shapley: None | ``aic`` | a number of regions, see `aosa.removal.summary.shapley_fit`.
        seed: of the draws, with the clip's id and the sample's index.

    Raises:
        ConfigError: an option out of its range, choices that do not fit together, or a grid finer than the clip.
    """

    def __init__(
        self,
        segmentation: str = "slic",
        segments: int = 200,
        compactness: float = 20.0,
        spacing: tuple[float, float, float] = (0.2, 1.0, 1.0),
        grid: tuple[int, int, int] = (4, 7, 7),
        flow: str | None = None,
        selection: str = "bernoulli",
        samples: int = 1000,
        keep: float = 0.5,
        removal: str = "black",
        summary: str = "linear",
        kernel_width: float = 0.25,
        alpha: float = 1.0,
        l1_reg: str | int | None = None,
        seed: int = 0,
    ) -> None:
        check_choice(
            "explainer",
            segmentation=(segmentation, _SEGMENTATIONS),
            flow=(flow, (None, *FLOWS)),
            selection=(selection, _SELECTIONS),
            removal=(removal, _REMOVALS),
            summary=(summary, _SUMMARIES),
        )
        for key, triple in (("grid", grid), ("spacing", spacing)):
            if not isinstance(triple, list | tuple) or len(triple) != 3:
                raise ConfigError(f"explainer.{key}={triple}: give [time, height, width]")
        for cells in grid:
            check_whole("explainer", grid=(cells, 1))
        tiny = 1e-6
        for length in spacing:
            check_range("explainer", spacing=(length, tiny, np.inf))
        check_range(
            "explainer",
            compactness=(compactness, tiny, np.inf),
            keep=(keep, 0, 1),
            kernel_width=(kernel_width, tiny, np.inf),
            alpha=(alpha, 0, np.inf),
        )
        check_whole("explainer", segments=(segments, 1), samples=(samples, 1), seed=(seed, 0))
        whole = isinstance(l1_reg, int) and not isinstance(l1_reg, bool) and l1_reg >= 1
        if l1_reg not in (None, "aic") and not whole:
            raise ConfigError(f"explainer.l1_reg={l1_reg}: give null, aic, or a number of regions of at least 1")
        _check_fit(segmentation, selection, summary, flow)
        self.segmentation = segmentation
        self.segments = segments
        self.compactness = compactness
        self.spacing = spacing
        self.grid = grid
        self.flow = flow
        self.selection = selection
        self.samples = samples
        self.keep = keep
        self.removal = removal
        self.summary = summary
        self.kernel_width = kernel_width
        self.alpha = alpha
        self.l1_reg = l1_reg
        self.seed = seed

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec).to(model.device)
        regions = self.regions(clip)
        kept, weights = self.select(regions.count, clip.id)
        ends = self._ends()
        rows = np.concatenate([np.full((1, regions.count), end) for end in ends] + [kept])
        scores = masked_scores(model, x, regions.masks(rows), self._fill(regions, x, model.spec), target)
        return regions.paint(self.summarise(kept, weights, scores[len(ends) :], scores[: len(ends)]))

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
            spacing=tuple(self.spacing),  # type: ignore[arg-type]
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

    def _fill(self, regions: Regions, x: Tensor, spec: InputSpec) -> Fill:
        if self.removal == "region_mean":
            return regions.mean_colour(x)
        return inpainting(x, spec) if self.removal == "inpaint" else make_fill(self.removal, x, spec)


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
