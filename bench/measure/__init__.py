"""What a method costs: time per call, memory, parameters and arithmetic."""
