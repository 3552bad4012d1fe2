"""Threads of a process that is about to start."""

# What numpy, scikit-learn and torch read when they are imported.
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
