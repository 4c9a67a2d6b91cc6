"""The tests of probewise; a package so that suites can be inherited across folders."""
