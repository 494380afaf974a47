"""Tools of this repository: generated pages, and indexes kept in step with the code."""
