"""Networks of libraries, built so that the supervised adapter can take them; what is optional is imported lazily."""
