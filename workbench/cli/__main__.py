"""`python -m workbench.cli` is the `workbench` command."""

from . import main

if __name__ == "__main__":
    main()
