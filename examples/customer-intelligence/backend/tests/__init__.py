"""Tests of the platform; they need no network and no container."""
