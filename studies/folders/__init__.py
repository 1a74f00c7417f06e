"""Your own pictures, in folders by class or in a Hugging Face data set, made into a prepared data set."""

from studies.folders.found import Found
from studies.folders.hub import open_imagefolder
from studies.folders.prepare import FolderReport, prepare_found
from studies.folders.source import find_pictures

__all__ = ["FolderReport", "Found", "find_pictures", "open_imagefolder", "prepare_found"]
