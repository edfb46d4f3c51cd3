"""CustomResourceDefinitions and their field reference, from the types in `podium.api`.

    python -m podium.crdgen [--check] [--docs DIR] [DIR]

A closed world: whatever the rewriter does not know stops it, with the path of the field.
"""

from podium.crdgen.definition import build_crd
from podium.crdgen.reference import build_page
from podium.crdgen.structural import NotStructuralError

__all__ = ["NotStructuralError", "build_crd", "build_page"]
