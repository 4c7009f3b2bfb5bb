"""Numerical building blocks of families: covariances, sums, EM and normal equations without nan."""
