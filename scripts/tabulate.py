"""Tables from records: python scripts/tabulate.py experiment=demo"""

from aosa.cli import main

if __name__ == "__main__":
    main("tabulate")
