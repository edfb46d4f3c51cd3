"""The custom resources as types; the words and names that they share. Touches nothing."""
