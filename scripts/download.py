"""Published weights and data sets: python scripts/download.py weights=r3d50_ucf101"""

from aosa.start import main

if __name__ == "__main__":
    main("download")
