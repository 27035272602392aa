"""`python -m phaselens` is `phaselens`."""

from phaselens.cli import main

if __name__ == "__main__":
    main()
