"""Per-step rewards where the environment gives none."""
