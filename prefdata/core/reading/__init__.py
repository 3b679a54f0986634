"""Files people have -> frames for the store: streams (`text`, `columnar`, `hub`), shapes (`shapes`) and builders (`build`).

`detect(path)` says what a file would be taken for; the sources on their shelf call `batches` or `import_path`.
"""

from prefdata.core.reading.files import Reading, batches, detect, detect_all, import_path
from prefdata.core.reading.shapes import SHAPES, Detected

__all__ = ["SHAPES", "Detected", "Reading", "batches", "detect", "detect_all", "import_path"]
