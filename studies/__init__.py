"""What is studied: categories, data sets and their readers, the phantom. No torch here."""
