"""Fakes and makers for tests, shipped for the authors of plugins; the product never imports them."""
