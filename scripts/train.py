"""Train or fine-tune a model: python scripts/train.py dataset=moving_shapes model=r3d_tiny"""

from aosa.start import main

if __name__ == "__main__":
    main("train")
