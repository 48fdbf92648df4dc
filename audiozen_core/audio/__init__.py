"""Audio files, the section `[acoustics]`, and the short-time Fourier transform."""
