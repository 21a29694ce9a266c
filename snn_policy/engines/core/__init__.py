"""The compiled core: plain C that decides event by event, for Python and, the same files, for a robot without Python.

`build` compiles the sources beside it into one shared library, `library` loads that, `layout` lays a network out as a
program (`program.h`), `engine` runs it.
"""
