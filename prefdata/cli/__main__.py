"""`python -m prefdata.cli` is `prefdata`."""

from prefdata.cli.main import main

if __name__ == "__main__":
    main()
