"""What every service shares: model formats, table readers, logging."""
