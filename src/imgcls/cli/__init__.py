"""The command line; its help lists commands in the order of these imports."""

from imgcls.cli import training

# isort: split
from imgcls.cli import judging, predicting

# isort: split
from imgcls.cli import installing, looking
from imgcls.cli.app import app, main

__all__ = ["app", "installing", "judging", "looking", "main", "predicting", "training"]
