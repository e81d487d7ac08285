"""Tables from records: python scripts/tabulate.py experiment=demo"""

from aosa.start import main

if __name__ == "__main__":
    main("tabulate")
