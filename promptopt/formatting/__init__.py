"""Numbers, tables, charts, LaTeX and contact sheets."""
