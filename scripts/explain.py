"""Saliency maps to disk: python scripts/explain.py dataset=ucf101 model=r3d50 explainer=aosa"""

from aosa.start import main

if __name__ == "__main__":
    main("explain")
