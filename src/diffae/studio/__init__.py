"""The studio: a page in the browser where people see, move and understand what a model has learnt (docs/studio.md).

`app` builds the web application, `server` runs it, `rooms` has the API of each room, `static` the built front end,
whose source is `web/` in the repository.
"""
