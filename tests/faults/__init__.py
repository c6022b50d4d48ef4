"""Real faults under a real server: full disks, limits, remounts, broken devices, damaged and deleted files."""
