"""What a failed generation leaves behind: collected before its processes are ended, kept, and compared."""
