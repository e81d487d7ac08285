"""What the stage benchmark measures, one file each."""
