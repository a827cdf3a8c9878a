"""Verifiable tasks: generators, solvers and verifiers at five levels of difficulty."""
