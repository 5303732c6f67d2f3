"""What people look at: pictures and pages, drawn from evidence."""
