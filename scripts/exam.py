"""Is moving_shapes a fair exam? Prints the table of docs/moving_shapes.md: python -P scripts/exam.py

(-P, because the script called tabulate would otherwise hide the package of that name from torch.)
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from tqdm import tqdm

from aosa.data.moving_shapes import CLASS_NAMES, MovingShapes
from aosa.models import load_model, randomise
from aosa.models.base import VideoModel
from aosa.models.r3d_tiny import R3DTiny
from aosa.rng import generator
from aosa.stages.train import accuracy

CHANCE = 1 / len(CLASS_NAMES)
CLIPS = 1800


def main() -> None:
    torch.set_num_threads(1)
    model = load_model("r3d_tiny", device="cpu")
    print(f"| | right | n | 99 % interval of chance |\n| --- | --- | --- | --- |\n{row('test split', model)}")
    print(row("five distractors", model, distractors=5))
    print(row("no distractors", model, distractors=0))
    print(row("without the relevant sprite", model, relevant=False))
    right = single_frame_network(model)
    print(line("a network trained on single frames", right, CLIPS))


def row(title: str, model: VideoModel, **options: object) -> str:
    result = accuracy(model, MovingShapes(split="test", size=CLIPS, **options))  # type: ignore[arg-type]
    return line(title, result.right, result.total)


def line(title: str, right: int, total: int) -> str:
    half = 2.576 * math.sqrt(CHANCE * (1 - CHANCE) / total)
    return f"| {title} | {right / total:.3f} | {total} | {CHANCE - half:.3f} – {CHANCE + half:.3f} |"


def single_frame_network(model: VideoModel, clips: int = 6000, frames: int = 4, passes: int = 2) -> int:
    """Train the same architecture on frames of the segment, one at a time; how many of `CLIPS` it gets right."""
    network = R3DTiny(len(CLASS_NAMES))
    randomise(network, "single frames")
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    x, y = segment_frames(model, "train", clips, frames)
    for turn in range(passes):
        order = torch.randperm(len(x), generator=generator("exam", turn))
        for batch in tqdm(order.split(64), desc="single frames", leave=False):
            loss = F.cross_entropy(network(model_input(model, x[batch])), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    network.eval()
    x, y = segment_frames(model, "test", CLIPS, 1)
    with torch.no_grad():
        return sum(
            int((network(model_input(model, a)).argmax(1) == b).sum())
            for a, b in zip(x.split(64), y.split(64), strict=True)
        )


def segment_frames(model: VideoModel, split: str, clips: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 N×H×W×3 random frames from within the segments, and their classes."""
    data = MovingShapes(split=split, size=clips)
    chosen = []
    for entry in tqdm(data.entries, desc=f"{split} clips", leave=False):
        clip = data.load(entry, model.spec)
        assert clip.segment is not None
        within = torch.randperm(clip.segment[1] - clip.segment[0], generator=generator("exam", split, entry.id))
        chosen.append(clip.frames[clip.segment[0] + within[:frames]])
    labels = torch.tensor([model.class_index(str(e.class_name)) for e in data.entries])
    return torch.cat(chosen), labels.repeat_interleave(frames)


def model_input(model: VideoModel, frames: torch.Tensor) -> torch.Tensor:
    """uint8 N×H×W×3 → N clips of one frame."""
    return model.spec.normalise(frames).transpose(0, 1).unsqueeze(2)


if __name__ == "__main__":
    main()
