"""asynctrack beside the programs that its users have: the real ones, from the extra ``places``."""
