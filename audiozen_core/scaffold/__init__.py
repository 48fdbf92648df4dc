"""Creates plugins and recipes from templates."""
