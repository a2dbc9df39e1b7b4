"""Fakes and makers for tests, shipped for authors of plugins; the product never imports them."""
