"""Grid worlds: maps from YAML, the rules of one step, compiled for speed."""
