"""Speed against bare forward passes: python scripts/benchmark.py model=r3d50"""

from aosa.cli import main

if __name__ == "__main__":
    main("benchmark")
