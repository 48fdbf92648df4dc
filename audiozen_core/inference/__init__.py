"""Uses trained networks: loads them, enhances arrays and files, and packs them into folders of their own."""
