"""`python -m imgcls` is the command line too."""

from imgcls.cli import main

if __name__ == "__main__":
    main()
