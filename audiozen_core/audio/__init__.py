"""Sound: the numbers of `[acoustics]`, audio files, and the short-time Fourier transform."""
