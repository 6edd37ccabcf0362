"""Conformance kits for authors of plugins, and small sets to test with.

Each kit is a function that takes a plugin and raises an `AssertionError` with a sentence
that says what is broken; call it in a test of your own distribution:

```python
from imgcls.testing import check_backbone

def test_my_backbone_conforms():
    check_backbone(MyBackbone(width=8))
```
"""

from imgcls.testing.backbones import check_backbone
from imgcls.testing.explainers import check_explainer
from imgcls.testing.planted import planted_patches
from imgcls.testing.samplers import check_sampler
from imgcls.testing.search import check_search_backend
from imgcls.testing.sets import blobs, write_image_folder
from imgcls.testing.splitters import check_splitter
from imgcls.testing.trackers import check_tracker

__all__ = [
    "blobs",
    "check_backbone",
    "check_explainer",
    "check_sampler",
    "check_search_backend",
    "check_splitter",
    "check_tracker",
    "planted_patches",
    "write_image_folder",
]
