"""What a failed generation leaves behind."""
