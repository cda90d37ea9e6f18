"""Files: atomic writes, streams such as /dev/stdout, text from outside, and one line for what the system refuses."""
