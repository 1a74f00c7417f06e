"""The engine: prompt spaces, search, confirmation, exports, report, command line."""

__version__ = "0.1.0"
