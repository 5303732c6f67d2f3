"""What people type, one file per command; `edge` is where they come in and where errors become exit codes."""
