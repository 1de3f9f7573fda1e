// The page to upload a file.  Without this file it works as a form does.
(() => {
  "use strict";

  const input = document.querySelector("input[data-check]");
  const { form } = input;
  const checked = document.querySelector("#checked");
  const sending = document.querySelector("#sending");
  const show = (html) => {
    checked.innerHTML = html;
    checked.querySelector("[data-focus]")?.focus();
  };

  // Its first part is checked as soon as it is chosen: the first mistakes are there before the file is sent.
  form.addEventListener("change", async (event) => {
    const file = input.files[0];
    if (!file || event.target.name === "note") return;
    checked.textContent = input.dataset.busy;
    const fields = new FormData(form);
    fields.set(input.name, file.slice(0, Number(input.dataset.checkBytes)), file.name);
    try {
      const headers = { "HX-Request": "true" };
      const answer = await fetch(input.dataset.check, { method: "POST", body: fields, headers });
      const html = await answer.text();
      if (input.files[0] === file) checked.innerHTML = html;
    } catch {
      checked.textContent = "";
    }
  });

  // It can be dropped anywhere on the page.
  const over = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    input.toggleAttribute("data-over", true);
  });
  document.addEventListener("dragleave", () => input.toggleAttribute("data-over", false));
  document.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    input.toggleAttribute("data-over", false);
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // While it is sent, a bar shows how far it is.
  document.addEventListener("submit", (event) => {
    if (event.target !== form || event.defaultPrevented || event.submitter?.hasAttribute("formaction")) return;
    event.preventDefault();
    sending.textContent = form.dataset.busy;
    const bar = document.createElement("progress");
    bar.setAttribute("aria-label", form.dataset.busy);
    sending.append(bar);
    const end = (html) => {
      delete form.dataset.sent;
      sending.textContent = "";
      show(html);
    };
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("HX-Request", "true");
    request.upload.addEventListener("progress", ({ loaded, total }) => (bar.value = loaded / total));
    request.addEventListener("load", () => {
      const to = request.getResponseHeader("HX-Redirect");
      if (to) {
        location.assign(to);
        return;
      }
      form.elements.once.value = crypto.randomUUID(); // the next attempt is another call
      end(request.responseText);
    });
    // Perhaps the file arrived, and only its answer was lost: the next attempt is the same call.
    request.addEventListener("error", () => {
      end("");
      sending.textContent = form.dataset.broken;
    });
    request.send(new FormData(form));
  });
})();
