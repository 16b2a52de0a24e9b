"""Test suites that a plug-in has to pass: inherit one, and build the plug-in in its fixture.

`discoverer` is for discoverers, `cloud` for cloud providers, `secretstore` for secret stores.
They need pytest; the asynchronous ones need pytest-asyncio in its mode "auto".
"""
