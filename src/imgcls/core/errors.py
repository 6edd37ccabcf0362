"""Every error that imgcls raises on purpose.

Messages read `'name' must <rule>, got <value!r>; <what to do>`. Each error takes
one string, so that it survives the pickling between processes.

```
ImgclsError
├── ConfigError (ValueError)          an option is unknown, has a wrong value or no effect
├── DataError (ValueError)            records, labels or groups that cannot be used
│   ├── DecodeError                   an image that is missing, broken or too large
│   └── SplitError                    a split that is impossible or would leak
├── PluginError
│   ├── UnknownPluginError (LookupError)   no plugin of that name
│   ├── PluginConflictError           two distributions claim one name
│   ├── PluginLoadError               a plugin cannot be imported
│   └── PluginContractError           a plugin does not keep its interface
├── MissingExtraError (ImportError)   a package of an extra is not installed
├── WeightsError (ValueError)         weights that are missing or do not fit
├── UnsupportedModelError (ValueError)    a model that a method cannot treat
├── TrainingError (ArithmeticError)   training went wrong (loss not finite)
└── RunError (ValueError)             a run folder that is missing, unfinished or damaged
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "DecodeError",
    "ImgclsError",
    "MissingExtraError",
    "PluginConflictError",
    "PluginContractError",
    "PluginError",
    "PluginLoadError",
    "RunError",
    "SplitError",
    "TrainingError",
    "UnknownPluginError",
    "UnsupportedModelError",
    "WeightsError",
    "listing",
    "missing_extra",
    "nearest",
]


class ImgclsError(Exception):
    """Base of every error that imgcls raises on purpose."""


class ConfigError(ImgclsError, ValueError):
    """An option is unknown, has a wrong value or would have no effect."""


class DataError(ImgclsError, ValueError):
    """Records, labels or groups cannot be used as they are."""


class DecodeError(DataError):
    """An image file is missing, broken or too large."""


class SplitError(DataError):
    """A split is impossible for this data or would leak."""


class PluginError(ImgclsError):
    """Something is wrong with a plugin or its name."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin has that name."""


class PluginConflictError(PluginError):
    """Two distributions claim one plugin name."""


class PluginLoadError(PluginError):
    """A plugin cannot be imported."""


class PluginContractError(PluginError):
    """A plugin does not keep the contract of its interface."""


class MissingExtraError(ImgclsError, ImportError):
    """A package of an extra is not installed."""


class WeightsError(ImgclsError, ValueError):
    """Weights are missing or do not fit the model."""


class UnsupportedModelError(ImgclsError, ValueError):
    """A method cannot treat this model and says why."""


class TrainingError(ImgclsError, ArithmeticError):
    """Training went wrong, for instance a loss that is not finite."""


class RunError(ImgclsError, ValueError):
    """A run folder is missing, unfinished or damaged."""


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """Make the error for a package that an extra brings.

    Args:
        package: The package that cannot be imported.
        extra: The extra of imgcls that has it.

    Returns:
        The error, to be raised; its message ends with the line to type.
    """
    return MissingExtraError(f"package {package!r} must be installed, got none; pip install 'imgcls[{extra}]'")


def nearest(name: str, options: Iterable[str]) -> str:
    """Say which options come near a name, or what there is.

    Args:
        name: What was asked for.
        options: The names that exist.

    Returns:
        A remedy to put after the semicolon of an error message.

    Examples:
        >>> nearest("resnet81", ["resnet18", "vgg11"])
        "did you mean 'resnet18'?"
        >>> nearest("x", ["uniform", "weighted"])
        "there are 'uniform', 'weighted'"
    """
    known = sorted(set(options))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {listing(close, last=' or ')}?"
    return f"there are {listing(known)}" if known else "there are none"


def listing(names: Iterable[object], *, limit: int = 12, last: str = ", ") -> str:
    """Write names for a message, the tail shortened to a count.

    Args:
        names: What to list, in order.
        limit: How many names are written out.
        last: What joins the last two.

    Returns:
        The names, each quoted.

    Examples:
        >>> listing(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    quoted = [repr(str(name)) for name in names]
    if len(quoted) > limit:
        return ", ".join(quoted[:limit]) + f" and {len(quoted) - limit} more"
    return ", ".join(quoted[:-1]) + last + quoted[-1] if len(quoted) > 1 else "".join(quoted)
