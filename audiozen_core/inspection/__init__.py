"""Examines installed components, for `audiozen plugins show` and `audiozen plugins doctor`."""
