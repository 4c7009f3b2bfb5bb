"""Numbers that families are made of: covariances, sums, EM and normal equations without nan."""
