"""The gateway's HTTP: the only place that sees Starlette, FastAPI and uvicorn (extra `serve`)."""
