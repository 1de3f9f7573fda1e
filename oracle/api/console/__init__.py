"""The web console: pages for people, rendered here, at /console of the admin listener.

How to add a page (`pages/fsps.py` and `templates/fsps/` are the example):

1. Write a function in a module of `pages`; a new module is found by itself.

       @page("fsps", "GET", "/fsps", lazy("FSPs"), needs=("listFsps",), menu=60)
       async def show_fsps(visit: Visit) -> Answer:
           page = await visit.get("listFsps", query={"cursor": visit.query["cursor"]})
           return visit.show("fsps/list.html", block="list", fsps=page["items"], next=page["next"])

2. `needs` names the operations of the API without which the page is useless.  Their guards decide who may open it and
   who sees it in the menu.  Ask the API with `visit.ask` or `visit.get`; never read the database, never check a value.
3. A form is a page with POST.  It asks the API, then leads on: `return visit.lead("fsps", _("…"))`.  With mistakes it
   shows the form again: `visit.show(…, errors=visit.errors_of(reply), values=visit.form)`.
4. The template extends layout.html, fills the block `content`, and uses the macros `ui` (templates/macros.html).  Every
   form with method="post" has {{ csrf_field() }}; one that creates something also {{ ui.once() }}.
5. It works without script.  htmx only saves a reload: hx-get with the same address, and `block=` names the part.
6. Write a text that a person gave as {{ key.label | bdi }}: else a right-to-left mark in it turns round what follows.
   No inline script or style.  No identifier in an address: it travels in the body of a POST, or sealed (`visit.seal`).
7. Run `make translations`, and fill in translations/es/{module}.po and translations/my/{module}.po.
8. Tests find the page by themselves: who may open it, axe in four looks, translations.  Add one for what it does.
"""
