"""Writes a distribution around a plugin that works, for its author to go on from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from imgcls.core import options
from imgcls.core.errors import nearest
from imgcls.core.folders import write_text
from imgcls.core.plugins import all_plugins

__all__ = ["KINDS", "new_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@attrs.frozen(kw_only=True)
class _Kind:
    """What differs between the kinds of plugins.

    Attributes:
        group: Its entry points.
        check: The kit that its plugins must pass.
        use: How a plugin is used, for the README; `{name}` stands for its name.
    """

    group: str
    check: str
    use: str


KINDS: Mapping[str, _Kind] = {
    "backbone": _Kind(group="imgcls.backbones", check="check_backbone", use='Trainer(data, backbone="{name}")'),
    "splitter": _Kind(group="imgcls.splitters", check="check_splitter", use='Trainer(data, splitter="{name}")'),
    "sampler": _Kind(
        group="imgcls.samplers", check="check_sampler", use='Trainer(data, balancer={{"sampler": "{name}"}})'
    ),
    "search-backend": _Kind(
        group="imgcls.search_backends",
        check="check_search_backend",
        use='Searcher(trainer, space=space, backend="{name}", trials=20)',
    ),
    "explainer": _Kind(group="imgcls.explainers", check="check_explainer", use='run.explain("{name}")'),
    "tracker": _Kind(group="imgcls.trackers", check="check_tracker", use='Trainer(data, trackers=["{name}"])'),
}
"""The kinds of plugins by name."""

#: The files of the distribution, and the templates they are made from.
_FILES = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "readme.md.jinja",
    ".gitignore": "gitignore.jinja",
    ".github/workflows/test.yml": "test.yml.jinja",
    "tests/test_conformance.py": "test_conformance.py.jinja",
    "src/{module}/__init__.py": "init.py.jinja",
    "src/{module}/plugin.py": "plugin_{kind}.py.jinja",
}


def new_plugin(name: str, *, kind: str, out: Path | None = None) -> Path:
    """Write a distribution that can be installed, tested and published.

    It holds a small plugin that works, a test that runs the conformance kit, and a workflow that
    runs that test for each change.

    Args:
        name: The name of the plugin and of the distribution, in kebab-case.
        kind: One of `KINDS`.
        out: The folder to make; None takes the name.

    Returns:
        The folder.

    Raises:
        ConfigError: if the name is no kebab-case or taken, the kind unknown, or the folder not empty.
    """
    if not _NAME.fullmatch(name):
        raise options.rejected("name", "be kebab-case, such as 'tiny-net'", name)
    if kind not in KINDS:
        raise options.rejected("kind", f"be one of {', '.join(KINDS)}", kind, nearest(kind, KINDS))
    _refuse_taken(name, KINDS[kind].group)
    folder = Path(name) if out is None else out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise options.rejected("out", "be a folder that does not exist or is empty", str(folder))
    _write(folder, name, kind)
    return folder


def _refuse_taken(name: str, group: str) -> None:
    for plugin in all_plugins():
        if (plugin.group, plugin.name) == (group, name):
            raise options.rejected("name", f"be new among {group}, where {plugin.distribution} has it", name)


def _write(folder: Path, name: str, kind: str) -> None:
    words, chosen = name.split("-"), KINDS[kind]
    facts = {
        "name": name,
        "kind": kind,
        "module": "_".join(words),
        "class_name": "".join(word.capitalize() for word in words),
        "group": chosen.group,
        "check": chosen.check,
        "use": chosen.use.format(name=name),
        "imgcls_version": version("imgcls"),
    }
    pages = Environment(  # noqa: S701 (Python and TOML, no HTML)
        loader=PackageLoader(__package__), undefined=StrictUndefined, keep_trailing_newline=True
    )
    for path, template in _FILES.items():
        place = folder / path.format(**facts)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, pages.get_template(template.format(**facts)).render(facts))
    write_text(folder / "src" / facts["module"] / "py.typed", "")
