"""What is installed, looked at closely: for `audiozen plugins show` and `audiozen plugins doctor`."""
