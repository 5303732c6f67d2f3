"""The night's git side: what it reads of the user's repository, the little it writes there, agents' trees."""
