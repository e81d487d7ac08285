"""Check a data set and write its manifest: python scripts/prepare.py dataset=ucf101"""

from aosa.start import main

if __name__ == "__main__":
    main("prepare")
