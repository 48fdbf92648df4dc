"""New plugins and recipes from templates."""
