"""Uses trained networks: loads them, enhances arrays and files, and exports them into self-contained folders."""
