"""Scores of several settings: python scripts/sweep.py explainer=aosa explainer.stride=4,8,16 name=stride"""

from aosa.start import main

if __name__ == "__main__":
    main("sweep")
