// What the pages cannot do without script: they work without this file.
(() => {
  "use strict";

  // Each request of htmx proves that it comes from our page, as the hidden field of a form does.
  document.addEventListener("htmx:config:request", (event) => {
    const meta = document.querySelector('meta[name="csrf"]');
    if (meta) event.detail.ctx.request.headers["X-CSRF-Token"] = meta.content;
  });

  // The server shows times in the zone of the browser, unless the account has another one.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.includes(`__Host-oracle-zone=${zone}`)) {
    document.cookie = `__Host-oracle-zone=${zone}; Path=/; Secure; SameSite=Lax; Max-Age=31536000`;
  }

  // What is wrong with a form is read out first.
  const focus = (root) => root.querySelector?.("[data-focus]")?.focus();
  focus(document);
  document.addEventListener("htmx:after:swap", () => focus(document));

  // A form that is sent is not sent again by a second click.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    const form = event.target;
    if (form.method !== "post" || form.dataset.sent) {
      if (form.dataset.sent) event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // A session can end while a person fills in a form.  After they have signed in again, in this tab, what they had
  // written is there again: for the same person only, and once.
  const { who } = document.body.dataset;
  const listFields = (form) => [...form.elements].filter((one) => one.name && !/^(hidden|password|file|submit)$/.test(one.type));
  const findPlace = (form) => location.pathname + " " + form.getAttribute("action");
  document.addEventListener("submit", ({ target: form, defaultPrevented }) => {
    if (defaultPrevented || form.method !== "post" || !who) return;
    const fields = listFields(form).map((one) => [one.value, one.checked]);
    sessionStorage.setItem("written", JSON.stringify({ who, place: findPlace(form), fields }));
  });
  const written = JSON.parse(sessionStorage.getItem("written"));
  if (written && !who) sessionStorage.setItem("written", JSON.stringify({ ...written, ended: true }));
  else sessionStorage.removeItem("written");
  if (written?.ended && written.who === who) {
    const form = [...document.forms].find((one) => findPlace(one) === written.place);
    const fields = form ? listFields(form) : [];
    if (fields.length && fields.length === written.fields.length) {
      fields.forEach((one, place) => {
        [one.value, one.checked] = written.fields[place];
        if (one.value && one.closest("details")) one.closest("details").open = true;
      });
      const messages = document.querySelector("#messages");
      const line = document.createElement("p");
      line.dataset.kind = "warning";
      line.textContent = messages.dataset.restored;
      messages.append(line);
    }
  }

  // On a narrow screen each row of a table is a card: its cells have the names of their columns, and keep their roles,
  // which a browser can forget with the layout.  A box that does not scroll is no stop for the keyboard.
  const nameCells = () => {
    for (const box of document.querySelectorAll(".scroll:has(> table)")) {
      const names = [...box.querySelectorAll("thead th")].map((head) => head.textContent.trim());
      box.querySelector("table").setAttribute("role", "table");
      for (const row of box.querySelectorAll("tr")) {
        row.setAttribute("role", "row");
        [...row.cells].forEach((cell, place) => {
          const isHead = cell.tagName === "TH";
          cell.setAttribute("role", isHead ? (cell.scope === "row" ? "rowheader" : "columnheader") : "cell");
          cell.toggleAttribute("data-empty", !cell.textContent.trim() && !cell.querySelector("img, svg, input"));
          if (!cell.closest("thead") && cell.colSpan === 1 && names[place]) cell.dataset.label = names[place];
        });
      }
      if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
      else if (box !== document.activeElement) box.removeAttribute("tabindex");
    }
  };
  nameCells();
  new MutationObserver(nameCells).observe(document.body, { childList: true, characterData: true, subtree: true });
  window.addEventListener("resize", nameCells);

  // The key / leads to the search, unless a person writes or has turned it off (WCAG 2.1.4) on the page of the search.
  const slash = document.querySelector("#slash-key");
  if (slash) {
    slash.closest("[hidden]").hidden = false;
    slash.checked = localStorage.getItem("slash") !== "off";
    slash.addEventListener("change", () => localStorage.setItem("slash", slash.checked ? "on" : "off"));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem("slash") === "off") return;
    if (event.target.closest?.("input, select, textarea, [contenteditable]")) return;
    const box = document.querySelector("[data-search], #field-identifier");
    if (!box) return;
    event.preventDefault();
    box.focus();
  });

  // <button data-copy="#id">: copies the text of that element.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const element = document.querySelector(button.dataset.copy);
    getSelection().selectAllChildren(element); // so that Ctrl+C works where the browser refuses the rest
    navigator.clipboard?.writeText(element.textContent.trim()).then(() => {
      if (button.dataset.done) button.textContent = button.dataset.done;
    });
  });
})();
