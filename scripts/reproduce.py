"""Everything an experiment needs: python scripts/reproduce.py experiment=demo"""

from aosa.start import main

if __name__ == "__main__":
    main("reproduce")
