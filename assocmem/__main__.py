"""``python -m assocmem`` is the command ``assocmem``."""

from assocmem.commands.cli import main

if __name__ == "__main__":
    main()
