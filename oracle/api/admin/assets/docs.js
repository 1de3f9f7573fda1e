// Shows one of the two contracts: /docs the admin one, /docs?contract=hub the hub's, which cannot be called from here.
"use strict";

const isHub = new URLSearchParams(location.search).get("contract") === "hub";
const name = isHub ? "hub" : "admin";

document.getElementById(name).hidden = false;
document.getElementById("to-" + name).setAttribute("aria-current", "page");

window.ui = SwaggerUIBundle({
  url: isHub ? "docs/hub.openapi.json" : "openapi.json",
  dom_id: "#contract",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  filter: true,
  validatorUrl: null, // it would send the contract to another server
  ...(isHub ? { supportedSubmitMethods: [] } : {}),
});
