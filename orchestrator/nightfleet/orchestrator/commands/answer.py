"""What a command answers with: the exit codes."""

DONE = 0
ANSWER_IS_NO = 1
COULD_NOT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count it
