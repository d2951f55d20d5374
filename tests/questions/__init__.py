"""The questions of the day about the support bot, asked of SQL, Python and the command line, and
compared with what the bot has counted itself."""
