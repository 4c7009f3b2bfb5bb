"""Networks that know no generations."""
