"""Tests of worldr1-train, and the fake world they train on."""
