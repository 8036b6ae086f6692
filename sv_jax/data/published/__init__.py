"""Published question files to dataset folders and back: one module a family of formats, one entry of FORMATS a format."""

from sv_jax.data.published.exporting import export_questions
from sv_jax.data.published.importing import FORMATS, ImportConfig, import_questions

__all__ = ["FORMATS", "ImportConfig", "export_questions", "import_questions"]
