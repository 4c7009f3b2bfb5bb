"""Early warning: alarms before a loss collapses, their errors, and hysteresis sweeps."""
