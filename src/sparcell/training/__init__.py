"""The training loop and what it needs: state, objective, schedules, checkpoints."""
