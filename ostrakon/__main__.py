"""`python -m ostrakon` is the command `ostrakon`."""

from ostrakon.cli.main import main

if __name__ == "__main__":
    main()
