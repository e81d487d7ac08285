"""Records of maps: python scripts/evaluate.py dataset=ucf101 model=r3d50 explainer=aosa metric=deletion_insertion"""

from aosa.start import main

if __name__ == "__main__":
    main("evaluate")
