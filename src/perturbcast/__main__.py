"""`python -m perturbcast` is `perturbcast`."""

from perturbcast.cli import main

if __name__ == "__main__":
    main()
