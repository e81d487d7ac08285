"""Speed against bare forward passes: python scripts/benchmark.py model=r3d50"""

from aosa.start import main

if __name__ == "__main__":
    main("benchmark")
