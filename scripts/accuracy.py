"""Accuracy of a model: python scripts/accuracy.py dataset=ucf101 model=r3d50"""

from aosa.start import main

if __name__ == "__main__":
    main("accuracy")
